"""Runs the workload within the budget in pristine processes, a value at a time."""

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import msgspec

from harness.measurement.limits import cgroup
from harness.measurement.process.launcher import Launcher
from harness.measurement.process.messages import Ended, Job
from harness.measurement.process.outcome import classify
from harness.prediction.mlp.data_segment import with_page_tables
from harness.schema.errors import HarnessError
from harness.schema.provenance import FailureEvidence
from harness.schema.record import Outcome
from harness.schema.threshold import Axis, Enforcement, Probed
from harness.schema.workload import Workload, WorkloadError
from harness.thresholds.search import Reading

_MOST_UNSEEN_BYTES = 8 * 4096
"""The most of the kernel's memory that a cgroup was seen to be charged for beyond page tables."""


class UndecidedError(Exception):
    """A probe neither fitted nor ran out of memory, twice."""

    def __init__(self, outcome: Outcome, evidence: FailureEvidence) -> None:
        super().__init__(f"{outcome}: {evidence}")
        self.outcome = outcome
        self.evidence = evidence


@dataclass(kw_only=True)
class Prober:
    """Probes values of ``solve`` and keeps how each probe ended, in order."""

    workload: Workload
    budget_bytes: int
    solve: Axis
    kind: Enforcement
    launcher: Launcher
    deadline_seconds: float
    probes: list[Probed] = field(default_factory=list)

    def estimate(self, workload: Workload, needed: int | None) -> int | None:
        """Return the answer as a probe of ``workload`` predicts it, by the bytes it needed."""
        del workload, needed
        return None

    def at(self, value: int) -> Workload | None:
        """Return the workload with this value; None where it cannot be described."""
        try:
            return self.workload.replace(**{self.solve: value})
        except WorkloadError:
            return None

    def probe(self, value: int) -> Reading:
        """Probe once; once more where it ended in an accident."""
        workload = self.at(value)
        if workload is None:  # larger than can be described: it fits into no budget
            return Reading(fits=False)
        for _ in range(2):
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
                estimate = self.estimate(workload, needed)
                return Reading(fits=outcome is Outcome.OK, estimate=estimate)
        raise UndecidedError(outcome, evidence | {"value": value})

    def _only_within(self, workload: Workload) -> bool:
        """Return whether a crash that says nothing of memory goes away with twice the budget.

        A library that writes where it could not allocate dies by a signal, without a word.
        """
        return classify(self._launch(workload, 2 * self.budget_bytes))[0] is Outcome.OK

    def _launch(self, workload: Workload, budget_bytes: int) -> Ended:
        job = Job(kind="probe", workload=workload, budget_bytes=budget_bytes, budget_kind=self.kind)
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


def _charged(group: cgroup.Group, result: dict[str, Any]) -> int | None:
    """Return what the group was charged for at most, less what was charged ahead."""
    charged, written = group.charged_bytes(), result["needed_bytes"]
    if charged is None or written is None:
        return charged
    return min(charged, with_page_tables(written) + _MOST_UNSEEN_BYTES)
