"""Finds the largest batch, depth or width that fits into a budget, by prediction and probes."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass

import msgspec

from harness.measurement.measure import DEADLINE_SECONDS
from harness.measurement.probe_job import Needed, Probe
from harness.prediction.mlp.cpu_trace import UnsupportedWorkloadError, axis_range, predict_trace
from harness.prediction.mlp.cpu_trace import solve as solve_live
from harness.prediction.mlp.data_segment import (
    Peak,
    charged_bytes,
    data_bytes,
    data_peak,
    solve_data_segment,
    with_page_tables,
)
from harness.processes.environment import describe
from harness.processes.launcher import ForkLauncher, Launcher, default_launcher
from harness.processes.limits import cgroup
from harness.processes.messages import Ended
from harness.schema.argument_checks import check_bytes, check_choice
from harness.schema.errors import HarnessError
from harness.schema.provenance import Environment
from harness.schema.threshold import (
    Axis,
    BudgetOf,
    Enforcement,
    EnforcementChoice,
    Headroom,
    Probed,
    Threshold,
)
from harness.schema.workload import Workload, WorkloadError, check_workload
from harness.thresholds.enforcement import (
    BudgetError,
    choose_kind,
    gpu_environment,
    refuse_size,
    refuse_uncounted,
    size_of_budget,
)
from harness.thresholds.probes import Probes, found
from harness.thresholds.search import CONFIRMATIONS, Reading, search

_START = {"batch": 64, "depth": 4, "width": 64}
"""First value that is probed if there is no prediction."""
_CLOSE_IN_CGROUP = 8
"""Usual error of a predicted threshold in a cgroup; two threads or wide layers raise this error."""
_MOST_UNSEEN_BYTES = 8 * 4096
"""Largest kernel memory, without page tables, that was measured in a cgroup, in bytes."""


def threshold(
    workload: Workload,
    *,
    budget_bytes: int | None = None,
    solve: Axis = "batch",
    kind: EnforcementChoice = "auto",
    budget_of: BudgetOf = "workload",
    confirmations: int = CONFIRMATIONS,
    deadline_seconds: float = DEADLINE_SECONDS,
    force: bool = False,
) -> Threshold:
    """Find a workload's threshold; the arguments are those of ``harness.threshold``."""
    check_choice("budget_of", budget_of, ("workload", "process"))
    found = find_threshold(
        workload,
        budget_bytes=budget_bytes,
        solve=solve,
        kind=kind,
        budget_of=budget_of,
        confirmations=confirmations,
        deadline_seconds=deadline_seconds,
        force=force,
    )
    if found.kind != "rlimit" or found.largest_fit is None or budget_of == "process":
        return found
    return _with_outside(found, found.largest_fit, deadline_seconds)


def _with_outside(found: Threshold, value: int, deadline_seconds: float) -> Threshold:
    """Add to ``found`` the bytes that a process without the harness needs beyond the budget."""
    needed = [p.needed_bytes for p in found.probes if p.value == value and p.needed_bytes]
    workload = found.workload.replace(**{found.solve: value})
    with closing(ForkLauncher(workload.malloc, primes=False)) as launcher:
        job = Probe(workload=workload, whole_process=True)
        result = launcher.launch(job, deadline_seconds).result
    if not needed or result is None or result["needed_bytes"] is None:
        return found
    outside = result["needed_bytes"] - max(needed)
    limit = result.get("limit_bytes")
    return msgspec.structs.replace(found, outside_bytes=outside, process_limit_bytes=limit)


def find_threshold(
    workload: Workload,
    *,
    budget_bytes: int | None = None,
    solve: Axis = "batch",
    kind: EnforcementChoice = "auto",
    budget_of: BudgetOf = "workload",
    confirmations: int = CONFIRMATIONS,
    deadline_seconds: float = DEADLINE_SECONDS,
    force: bool = False,
    launcher: Launcher | None = None,
    attempt: int = 1,
) -> Threshold:
    """Find a threshold; if ``launcher`` is None, start a new launcher."""
    check_workload(workload)
    check_bytes("budget_bytes", budget_bytes)
    check_choice("solve", solve, ("batch", "depth", "width"))
    if budget_bytes is not None and workload.device == "cpu":
        refuse_size(budget_bytes, workload, force=force)
    chosen = choose_kind(workload, kind, whole_gpu=budget_bytes is None)
    whole = budget_of == "process"
    if whole and chosen != "rlimit":
        raise BudgetError(f"budget_of process needs kind rlimit, got {chosen}")
    own = ForkLauncher(workload.malloc, primes=False) if whole else None
    used = launcher or own or default_launcher(workload.malloc)
    try:
        environment = (
            gpu_environment(workload, used, deadline_seconds) if workload.device == "cuda" else {}
        )
        run = _Run(
            workload=workload,
            budget_bytes=size_of_budget(budget_bytes, environment),
            solve=solve,
            kind=chosen,
            budget_of=budget_of,
            launcher=used,
            deadline_seconds=deadline_seconds,
            environment=environment,
        )
        return run.threshold(confirmations, attempt)
    finally:
        if launcher is None:
            used.close()


@dataclass(kw_only=True)
class _Run:
    """One search for a threshold; each probe of a value runs in a new process."""

    workload: Workload
    budget_bytes: int
    solve: Axis
    kind: Enforcement
    budget_of: BudgetOf
    launcher: Launcher
    deadline_seconds: float
    environment: Environment

    def threshold(self, confirmations: int, attempt: int) -> Threshold:
        started = time.monotonic()
        live, predicted = self._predictions()
        least, most = axis_range(self.workload, self.solve)
        guess = predicted or live or (least if live is None and self._predictable else 0)
        probes = Probes(
            launch=self._launch,
            estimate=self._estimate,
            budget_bytes=self.budget_bytes,
            device=self.workload.device,
        )
        answer = found(
            lambda: search(
                lambda value: (
                    probes.probe(value) if self._at(value) is not None else Reading(fits=False)
                ),
                guess or _START[self.solve],
                least=least,
                most=most,
                confirmations=confirmations,
                close=_CLOSE_IN_CGROUP if self.kind == "cgroup" and self._modelled else None,
            )
        )
        return Threshold(
            workload_id=self.workload.id,
            workload=self.workload,
            solve=self.solve,
            budget_bytes=self.budget_bytes,
            kind=self.kind,
            budget_of=self.budget_of,
            attempt=attempt,
            predicted=predicted if self.budget_of == "workload" else None,
            live_bytes_predict=live,
            probes=tuple(probes.seen),
            wall_seconds=time.monotonic() - started,
            environment=describe(self.workload, self.launcher.name) | self.environment,
            headroom=self._headroom(answer.get("largest_fit"), probes.seen),
            **answer,
        )

    def _at(self, value: int) -> Workload | None:
        """Return the workload with ``value``; None if no workload can have this value."""
        try:
            return self.workload.replace(**{self.solve: value})
        except WorkloadError:
            return None

    def _launch(self, value: int, budget_bytes: int) -> Ended[Needed]:
        job = Probe(
            workload=self.workload.replace(**{self.solve: value}),
            budget_bytes=budget_bytes,
            kind=self.kind,
            whole_process=self.budget_of == "process",
        )
        with cgroup.group() if self.kind == "cgroup" else nullcontext() as group:
            if group is not None:
                job = msgspec.structs.replace(job, cgroup=str(group.folder))
            ended = self.launcher.launch(job, self.deadline_seconds)
            kills = group.oom_kills() if group is not None else 0
            if group is not None and ended.result is not None:
                ended.result["needed_bytes"] = _charged(group, ended.result)
        if ended.failure is not None and ended.failure.users_mistake:
            raise HarnessError(ended.failure.message)
        return msgspec.structs.replace(ended, oom_kills=kills)

    @property
    def _modelled(self) -> bool:
        """Return whether the memory model can predict the bytes that the memory limit counts."""
        return self.kind in ("rlimit", "cgroup") and self.workload.malloc == "pinned"

    @property
    def _predictable(self) -> bool:
        try:
            predict_trace(self.workload)
        except UnsupportedWorkloadError:
            return False
        return True

    def _predictions(self) -> tuple[int | None, int | None]:
        """Return thresholds predicted from live bytes, and from all bytes that the limit counts."""
        if not self._predictable:
            return None, None
        if self.solve == "depth" and self._modelled:
            refuse_uncounted(self.workload)
        live = solve_live(self.workload, self.budget_bytes, self.solve)
        return live, self._solve() if self._modelled else live

    @property
    def _counted(self) -> Callable[[Peak], int]:
        """Function that returns how many bytes of a predicted peak the memory limit counts."""
        return charged_bytes if self.kind == "cgroup" else data_bytes

    def _solve(self, extra_bytes: int = 0) -> int | None:
        """Return the largest value whose predicted peak plus ``extra_bytes`` fits the budget."""
        return solve_data_segment(
            self.workload,
            self.budget_bytes,
            self.solve,
            extra_bytes=extra_bytes,
            counted=self._counted,
        )

    def _estimate(self, value: int, needed: int | None) -> int | None:
        """Predict the largest value that fits, corrected by the prediction error at ``value``."""
        workload = self._at(value)
        if needed is None or workload is None or not self._modelled or not self._predictable:
            return None
        return self._solve(needed - self._counted(data_peak(workload)))

    def _headroom(self, largest_fit: int | None, probes: Sequence[Probed]) -> Headroom | None:
        workload = None if largest_fit is None else self._at(largest_fit)
        needed = [p.needed_bytes for p in probes if p.value == largest_fit and p.needed_bytes]
        if workload is None or not needed or not self._modelled or not self._predictable:
            return None
        peak = data_peak(workload)
        return Headroom(
            live_bytes=peak.live_bytes,
            rounding_bytes=peak.rounding_bytes,
            small_bytes=-peak.small_bytes,
            library_bytes=max(needed) - peak.data_bytes + peak.library_bytes,
            unused_bytes=self.budget_bytes - max(needed),
        )


def _charged(group: cgroup.ControlGroup, result: Needed) -> int | None:
    """Return the cgroup's peak memory in bytes, without pages that are charged in advance."""
    charged, written = group.charged_bytes(), result["needed_bytes"]
    if charged is None or written is None:
        return charged
    return min(charged, with_page_tables(written) + _MOST_UNSEEN_BYTES)
