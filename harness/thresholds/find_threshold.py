"""Finds a threshold for real: predicts it, probes there in pristine processes, and records it."""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import msgspec

from harness.allocator import AllocatorConfigError
from harness.measurement.environment import describe
from harness.measurement.limits import cgroup, heap_headroom, machine_memory, rlimit
from harness.measurement.measure import DEADLINE_SECONDS
from harness.measurement.process.launcher import Launcher, default_launcher
from harness.measurement.process.messages import Ended, Job
from harness.measurement.process.outcome import classify
from harness.prediction.gpu import catalogue
from harness.prediction.gpu.fit import GpuMemory
from harness.prediction.mlp.cpu_trace import UnsupportedWorkloadError, predict_trace
from harness.prediction.mlp.cuda_fit import largest_batch, largest_by_requests
from harness.prediction.mlp.data_segment import data_peak, solve_data_segment
from harness.prediction.mlp.largest_fit import axis_range
from harness.prediction.mlp.largest_fit import solve as solve_live
from harness.schema.argument_checks import check_bytes, check_choice, check_workload
from harness.schema.errors import HarnessError
from harness.schema.record import Outcome
from harness.schema.threshold import (
    Axis,
    BandValue,
    Enforcement,
    EnforcementChoice,
    Headroom,
    Probed,
    Threshold,
)
from harness.schema.units import format_bytes
from harness.schema.workload import Workload, WorkloadError
from harness.thresholds.search import CONFIRMATIONS, Answer, Reading, search

_START = {"batch": 64, "depth": 4, "width": 64}
"""Where a search starts that no prediction guides."""
_MOST_UNCOUNTED = 10
"""Blocks that no limit counts may make a tenth of a layer at most."""
_STRETCH = 16
"""Values over which what one more needs is averaged."""
_TWO_DEPTHS = (16, 32)
"""Between them lies what another layer needs."""


class BudgetError(HarnessError):
    """The budget cannot be enforced here; the message says why."""


class UndecidedError(Exception):
    """A probe neither fitted nor ran out of memory, twice."""

    def __init__(self, outcome: Outcome, evidence: dict[str, Any]) -> None:
        super().__init__(f"{outcome}: {evidence}")
        self.outcome = outcome
        self.evidence = evidence


def threshold(
    workload: Workload,
    *,
    budget_bytes: int | None = None,
    solve: Axis = "batch",
    kind: EnforcementChoice = "auto",
    confirmations: int = CONFIRMATIONS,
    deadline_seconds: float = DEADLINE_SECONDS,
    launcher: Launcher | None = None,
    attempt: int = 1,
    force: bool = False,
) -> Threshold:
    """Find the largest batch, depth or width that fits into a memory budget.

    The threshold is predicted first; then processes of their own run the workload on both sides
    of it.

    Args:
        workload: the workload; its own value of ``solve`` is not used.
        budget_bytes: the budget in bytes. On CUDA None means all free memory of the GPU.
        solve: the value to make as large as possible.
        kind: how the budget is enforced: "rlimit" (RLIMIT_DATA) or "cgroup" on the CPU,
            "allocator" (its limit) on CUDA, or "auto".
        confirmations: how often each side of the threshold is seen.
        deadline_seconds: seconds after which a probe is stopped.
        launcher: starts the worker processes; by default one that ends with this search.
        attempt: the number of the attempt, for the record.
        force: try a budget larger than what is available on this machine.

    Returns:
        The largest value that fits, the smallest that does not, and every probe.

    Raises:
        ArgumentError: an argument has the wrong type.
        BudgetError: the budget cannot be enforced here, or is too small to be.
        MemoryUnavailableError: the budget is larger than what is available.
        LaunchError: no worker process can be started.

    >>> import harness
    >>> step = harness.Workload(width=64, in_features=64)
    >>> harness.threshold(step, budget_bytes=8 * 2**20).outcome
    <Outcome.OK: 'ok'>

    """
    check_workload(workload)
    check_bytes("budget_bytes", budget_bytes)
    check_choice("solve", solve, ("batch", "depth", "width"))
    if budget_bytes is not None and workload.device == "cpu":
        _refuse_size(budget_bytes, workload, force=force)
    chosen = choose_kind(workload, kind, whole_gpu=budget_bytes is None)
    used = launcher or default_launcher(workload.malloc)
    try:
        environment = (
            _gpu_environment(workload, used, deadline_seconds) if workload.device == "cuda" else {}
        )
        run = _Run(
            workload=workload,
            budget_bytes=_budget_of(budget_bytes, environment),
            solve=solve,
            kind=chosen,
            launcher=used,
            deadline_seconds=deadline_seconds,
            environment=environment,
        )
        return run.threshold(confirmations, attempt)
    finally:
        if launcher is None:
            used.close()


def _refuse_size(budget_bytes: int, workload: Workload, *, force: bool) -> None:
    """Refuse a budget that cannot be enforced, or that this machine does not have.

    Raises:
        BudgetError: it is smaller than the room for small blocks, which no limit counts.
        MemoryUnavailableError: it is larger than what is available.

    """
    least = heap_headroom.room_bytes(workload.depth)
    if budget_bytes < least:
        rule = f"{format_bytes(least)} ({least:,} B) for {workload.depth:,} layers"
        reason = "blocks smaller than a page are not counted below it"
        raise BudgetError(f"budget must be at least {rule}, got {budget_bytes:,} B: {reason}")
    if not force:
        hint = "choose a smaller budget, or override with --force"
        machine_memory.refuse_more_than_available("a budget of", budget_bytes, hint)


def _gpu_environment(
    workload: Workload, launcher: Launcher, deadline_seconds: float
) -> dict[str, Any]:
    """Return what a worker says of the GPU.

    Raises:
        HarnessError: there is none.
        BudgetError: the worker that was to measure it did not end well.

    """
    ended = launcher.launch(Job(kind="describe", workload=workload), deadline_seconds)
    if ended.failure is not None and ended.failure.users_mistake:
        raise HarnessError(ended.failure.message)
    outcome, evidence = classify(ended)
    if ended.result is None:
        raise BudgetError(
            f"the process that reads the GPU's memory ended with {outcome}: {evidence}"
        )
    environment: dict[str, Any] = ended.result["environment"]
    return environment


def _budget_of(budget_bytes: int | None, environment: dict[str, Any]) -> int:
    """Return the budget in bytes: on a GPU without one, the GPU's free memory.

    Raises:
        BudgetError: the GPU is smaller than the budget.

    """
    if not environment:
        assert budget_bytes is not None, "choose_kind has asked for it"
        return budget_bytes
    total: int = environment["gpu_memory_bytes"]
    if budget_bytes is None:
        return max(1, total - int(environment["gpu_used_before_bytes"]))
    if budget_bytes > total:
        size, most = format_bytes(budget_bytes), format_bytes(total)
        raise BudgetError(f"budget must be at most the memory of the GPU, {most}, got {size}")
    return budget_bytes


def choose_kind(
    workload: Workload, kind: EnforcementChoice, *, whole_gpu: bool = False
) -> Enforcement:
    """Return how a budget for ``workload`` is to be enforced, having tried that it can be.

    ``whole_gpu``: none was given, so the GPU's own size is the budget.

    Raises:
        BudgetError: it cannot.

    """
    if workload.device == "cuda":
        if kind not in ("auto", "allocator"):
            raise BudgetError(f"kind must be auto or allocator for device cuda, got {kind!r}")
        return "card" if whole_gpu else "allocator"
    if whole_gpu:
        raise BudgetError("a budget must be given for device cpu, e.g. --budget 256MiB")
    tries: dict[Enforcement, Callable[[], tuple[bool, str]]] = {
        "rlimit": rlimit.data_segment_available,
        "cgroup": cgroup.available,
    }
    reasons = []
    wanted = [name for name in tries if kind in ("auto", name)]
    if not wanted:
        raise BudgetError(f"kind must be auto, rlimit or cgroup for device cpu, got {kind!r}")
    for name in wanted:
        works, detail = tries[name]()
        if works:
            return name
        reasons.append(detail)
    raise BudgetError(f"kind {kind!r} is not available here: {'; '.join(reasons)}")


@dataclass(kw_only=True)
class _Run:
    """One search in progress."""

    workload: Workload
    budget_bytes: int
    solve: Axis
    kind: Enforcement
    launcher: Launcher
    deadline_seconds: float
    probes: list[Probed] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)

    def threshold(self, confirmations: int, attempt: int) -> Threshold:
        started = time.monotonic()
        live, predicted = self._predictions()
        least, most = axis_range(self.workload, self.solve)
        guess = predicted or live or (least if live is None and self._followed else 0)
        answer, outcome, evidence = None, Outcome.OK, {}
        try:
            answer = search(
                self._probe,
                self._calibrated(guess, least) or _START[self.solve],
                least=least,
                most=most,
                confirmations=confirmations,
                off_by=self._off_by(guess),
            )
        except UndecidedError as error:
            outcome, evidence = error.outcome, error.evidence
        fields: dict[str, Any] = {} if answer is None else _answer_fields(answer)
        if answer is not None and answer.largest_fit is not None:
            fields["headroom"] = self._headroom(answer.largest_fit)
        return Threshold(
            workload_id=self.workload.id,
            workload=self.workload,
            solve=self.solve,
            budget_bytes=self.budget_bytes,
            kind=self.kind,
            outcome=outcome,
            evidence=evidence,
            attempt=attempt,
            predicted=predicted,
            live_bytes_predict=live,
            probes=tuple(self.probes),
            wall_seconds=time.monotonic() - started,
            environment=describe(self.workload, self.launcher.name) | self.environment,
            **fields,
        )

    @property
    def _modelled(self) -> bool:
        """Whether what is limited is modelled: the pinned policy's data segment.

        A cgroup is charged for it too, and for page tables and copied pages in addition.
        """
        return self.kind in ("rlimit", "cgroup") and self.workload.malloc == "pinned"

    @property
    def _followed(self) -> bool:
        try:
            predict_trace(self.workload)
        except UnsupportedWorkloadError:
            return False
        return True

    def _predictions(self) -> tuple[int | None, int | None]:
        """Return the largest that fits by the live bytes, and by the model of what is limited.

        That is the data segment on the CPU, the caching allocator on a GPU.
        """
        if self.workload.device == "cuda":
            return self._by_the_allocator()
        if not self._followed:
            return None, None
        self._refuse_uncounted()
        live = solve_live(self.workload, self.budget_bytes, self.solve)
        if not self._modelled:
            return live, live
        return live, solve_data_segment(self.workload, self.budget_bytes, self.solve)

    def _calibrated(self, guess: int, least: int) -> int:
        """Return a guess that knows what a cgroup is charged for in addition: from half the size.

        A process that the kernel kills reports nothing, so one that fits is probed first.
        """
        if self.kind != "cgroup" or not guess:
            return guess
        return self._probe(max(least, guess // 2)).estimate or guess

    def _off_by(self, guess: int) -> int | None:
        """Return by how many values a guess may be off that a cgroup's charges give.

        A power of two, which is halved without a rest. None where nothing was measured for the
        guess, or nothing is modelled.
        """
        if self.kind != "cgroup" or not guess or not self._modelled or not self._followed:
            return None
        near, far = (self._at(guess), self._at(guess + _STRETCH))
        if near is None or far is None:
            return None
        each_bytes = (data_peak(far).data_bytes - data_peak(near).data_bytes) // _STRETCH
        values = math.ceil(cgroup.BATCH_BYTES / 2 / max(1, each_bytes))
        return 1 << (values.bit_length() - 1)

    def _by_the_allocator(self) -> tuple[int | None, int | None]:
        """Return the largest batch whose requests fit, and the one that the allocator runs."""
        if self.solve != "batch":
            return None, None
        gpu = catalogue.recorded(self.environment)
        memory = GpuMemory(
            gpu=gpu,
            settings=self.environment["allocator_settings"],
            total_bytes=self.budget_bytes,
            outside_bytes=(0, 0),
        )
        try:
            predicted = largest_batch(memory, self.workload)
            if predicted is None:
                return None, None
            return largest_by_requests(self.workload, gpu, self.budget_bytes), predicted
        except (UnsupportedWorkloadError, AllocatorConfigError):
            return None, None

    def _refuse_uncounted(self) -> None:
        """Refuse to search a depth whose layers lie in blocks that no limit counts.

        Raises:
            BudgetError: blocks smaller than a page make more than a tenth of each layer.

        """
        if self.solve != "depth" or not self._modelled:
            return
        few, many = (self.workload.replace(depth=depth, hidden=()) for depth in _TWO_DEPTHS)
        live_bytes = predict_trace(many).peak_live_bytes - predict_trace(few).peak_live_bytes
        counted_bytes = data_peak(many).data_bytes - data_peak(few).data_bytes
        if counted_bytes < live_bytes * (1 - 1 / _MOST_UNCOUNTED):
            share = f"{1 - counted_bytes / live_bytes:.0%} of what a layer needs"
            rule = "no limit counts them; choose a larger width or batch"
            raise BudgetError(f"depth: blocks smaller than a page make {share}, and {rule}")

    def _at(self, value: int) -> Workload | None:
        try:
            return self.workload.replace(**{self.solve: value})
        except WorkloadError:
            return None

    def _probe(self, value: int) -> Reading:
        """Probe once; once more where it ended in an accident."""
        workload = self._at(value)
        if workload is None:  # larger than can be described: it fits into no budget
            return Reading(fits=False)
        for last in (False, True):
            ended = self._launch(workload, self.budget_bytes)
            outcome, evidence = classify(ended)
            by_signal = outcome is Outcome.CRASHED and "signal" in evidence
            if by_signal and workload.device == "cpu" and self._only_within(workload):
                outcome = Outcome.OOM
            needed = (ended.result or {}).get("needed_bytes")
            self.probes.append(
                Probed(
                    value=value,
                    outcome=outcome,
                    phase=None if outcome is Outcome.OK else ended.phase,
                    type=evidence.get("type") or evidence.get("signal"),
                    needed_bytes=needed,
                    seconds=ended.seconds,
                )
            )
            if outcome in (Outcome.OK, Outcome.OOM):
                return Reading(
                    fits=outcome is Outcome.OK, estimate=self._estimate(workload, needed)
                )
            if last:
                raise UndecidedError(outcome, evidence | {"value": value})
        raise AssertionError("the second accident is the last")

    def _only_within(self, workload: Workload) -> bool:
        """Whether a crash that says nothing of memory goes away with twice the budget.

        A library that writes where it could not allocate dies by a signal, without a word.
        """
        return classify(self._launch(workload, 2 * self.budget_bytes))[0] is Outcome.OK

    def _launch(self, workload: Workload, budget_bytes: int) -> Ended:
        job = Job(
            kind="probe",
            workload=workload,
            budget_bytes=budget_bytes,
            budget_kind=self.kind,
        )
        with cgroup.group() if self.kind == "cgroup" else nullcontext() as group:
            if group is not None:
                job = msgspec.structs.replace(job, cgroup=str(group.folder))
            ended = self.launcher.launch(job, self.deadline_seconds)
            kills = group.oom_kills() if group is not None else 0
            if group is not None and ended.result is not None:
                ended.result["needed_bytes"] = group.charged_bytes(budget_bytes)
        if ended.failure is not None and ended.failure.users_mistake:
            raise HarnessError(ended.failure.message)
        return msgspec.structs.replace(ended, oom_kills=kills)

    def _estimate(self, workload: Workload, needed: int | None) -> int | None:
        """Return where the answer lies if the model is off everywhere by what it is off here.

        A cgroup is charged for page tables, which grow with the data, and in batches: half of
        one on average was never used. Near its limit what is charged says nothing.
        """
        if needed is None or not self._modelled or not self._followed:
            return None
        data_bytes, budget_bytes = data_peak(workload).data_bytes, self.budget_bytes
        if self.kind == "cgroup":
            if needed > budget_bytes - cgroup.BATCH_BYTES:
                return None
            needed -= cgroup.BATCH_BYTES // 2 + data_bytes // cgroup.MAPPED_BY_TABLES
            budget_bytes -= budget_bytes // cgroup.MAPPED_BY_TABLES
        extra = needed - data_bytes
        return solve_data_segment(self.workload, budget_bytes, self.solve, extra_bytes=extra)

    def _headroom(self, largest_fit: int) -> Headroom | None:
        workload = self._at(largest_fit)
        needed = [p.needed_bytes for p in self.probes if p.value == largest_fit and p.needed_bytes]
        if workload is None or not needed or not self._modelled or not self._followed:
            return None
        peak = data_peak(workload)
        return Headroom(
            live_bytes=peak.live_bytes,
            rounding_bytes=peak.rounding_bytes,
            small_bytes=-peak.small_bytes,
            library_bytes=max(needed) - peak.data_bytes + peak.library_bytes,
            unused_bytes=self.budget_bytes - max(needed),
        )


def _answer_fields(answer: Answer) -> dict[str, Any]:
    return {
        "largest_fit": answer.largest_fit,
        "smallest_fail": answer.smallest_fail,
        "confirmed": answer.confirmed,
        "band": tuple(
            BandValue(value=tried.value, fits=tried.fits, trials=tried.trials)
            for tried in answer.band
        ),
    }
