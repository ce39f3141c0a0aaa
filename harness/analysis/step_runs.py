"""The traced steps of one experiment, and what functions of its own counted."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from msgspec.structs import asdict, replace

from harness.analysis import AnalysisError
from harness.analysis.frame import lines_if_there
from harness.schema.metrics import Metrics
from harness.schema.provenance import FailureEvidence
from harness.schema.record import Outcome
from harness.schema.traced_run import STEP_RUNS, StepJob, StepRun, from_json

_Known = TypeVar("_Known")


class Steps:
    """The steps of one experiment that ended well, by their jobs."""

    def __init__(self, runs: Mapping[str, StepRun]) -> None:
        self._runs = runs

    def __contains__(self, job: StepJob) -> bool:
        return job.cell_id in self._runs

    def metrics(self, job: StepJob) -> Metrics:
        """Return the metrics of a traced step."""
        return _known(self._run(job).metrics, job)

    def counted(self, job: StepJob) -> dict[str, int]:
        """Return what a function counted."""
        return self._run(job).counted or {}

    def saved_bytes(self, job: StepJob) -> int:
        """Return what autograd holds at the end of the forward pass."""
        return _known(self.metrics(job).saved_bytes, job)

    def peak_bytes(self, job: StepJob) -> int:
        """Return the highest of the live bytes of the step; on CUDA, of those requested."""
        return _known(self.metrics(job).peak_live_bytes, job)

    def parts_at_peak(self, job: StepJob) -> dict[str, int]:
        """Return the live bytes at the peak by category."""
        parts: dict[str, int] = asdict(_known(self.metrics(job).categories_at_peak, job))
        return parts

    def allocated_bytes(self, job: StepJob) -> int:
        """Return the allocated peak of the CUDA allocator."""
        return _known(_known(self.metrics(job).cuda, job).allocated_peak_bytes, job)

    def _run(self, job: StepJob) -> StepRun:
        if job.cell_id not in self._runs:
            raise AnalysisError(f"{job} is missing")
        return self._runs[job.cell_id]


def _known(value: _Known | None, job: StepJob) -> _Known:
    """Return a metric that is there."""
    if value is None:
        raise AnalysisError(f"{job} has no such metric")
    return value


def last_runs(folder: Path) -> list[StepRun]:
    """Return the last run of each job, one that ended well if any did.

    A run is an error, and its numbers are left out, if another attempt has other numbers or if
    its own numbers contradict each other.
    """
    attempts: dict[str, list[StepRun]] = {}
    for run in lines_if_there(folder / STEP_RUNS, from_json):
        attempts.setdefault(run.cell_id, []).append(run)
    return [_settled(own) for own in attempts.values()]


def _settled(attempts: list[StepRun]) -> StepRun:
    well = [run for run in attempts if run.outcome is Outcome.OK]
    last = (well or attempts)[-1]
    alike = all((run.metrics, run.counted) == (last.metrics, last.counted) for run in well)
    doubt = contradiction(last) if alike else f"{len(well)} attempts have different numbers"
    return distrusted(last, doubt) if doubt else last


def distrusted(run: StepRun, why: str) -> StepRun:
    """Return a run without its numbers."""
    evidence: FailureEvidence = {"message": why}
    return replace(run, outcome=Outcome.ERROR, evidence=evidence, metrics=None, counted=None)


def contradiction(run: StepRun) -> str:
    """Return which of a run's numbers contradict each other; empty if none do.

    Each peak and each sum of saved tensors was recorded in parts too, and on CUDA by the allocator.
    """
    if run.counted is not None and not any(run.counted.values()):
        return "every number that was counted is 0"
    known = run.metrics or Metrics()
    peak, saved, parts = known.peak_live_bytes, known.saved_bytes, known.categories_at_peak
    phase = (known.phases or {}).get(known.peak_phase or "")
    sides = {
        "its phase's": phase and phase.peak_live_bytes,
        "the sum of its parts": parts and sum(asdict(parts).values()),
        "the allocator's counter": known.cuda and known.cuda.requested_peak_bytes,
    }
    inputs, activations = known.saved_input_bytes, known.saved_activation_bytes
    if None not in (saved, inputs, activations) and saved != inputs + activations:  # type: ignore[operator]
        return f"the saved bytes are {saved:,}, their parts {inputs + activations:,}"  # type: ignore[operator]
    for name, second in sides.items():
        if peak is not None and second is not None and peak != second:
            return f"the peak is {peak:,} bytes, {name} {second:,}"
    return ""


def well(runs: Iterable[StepRun]) -> Iterator[tuple[StepJob, dict[str, int]]]:
    """Yield the jobs that ended well, each with what it counted."""
    for run in runs:
        if not run.problem and run.counted is not None:
            yield run.job, run.counted


def no_answer(what: str, runs: Iterable[StepRun]) -> AnalysisError:
    """Return the error that no run can be used, with the reasons that the runs give."""
    why = sorted({run.problem for run in runs if run.problem})
    return AnalysisError(what + "".join(f": {each}" for each in why))


def seen_on(runs: Iterable[StepRun]) -> str:
    """Return the versions of PyTorch and the pretended GPUs in words."""
    seen = {f"torch {run.environment.get('torch')} on a dry run, {run.job.gpu}" for run in runs}
    return ", ".join(sorted(seen))
