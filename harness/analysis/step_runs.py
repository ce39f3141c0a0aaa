"""Results of the traced steps and of the counting functions of an experiment."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from msgspec.structs import asdict

from harness.analysis import AnalysisError
from harness.schema.metrics import Metrics
from harness.schema.traced_run import StepJob, StepRun

_Known = TypeVar("_Known")


class Steps:
    """Results of an experiment's successful steps, looked up by job."""

    def __init__(self, runs: Mapping[str, StepRun]) -> None:
        self._runs = runs

    def __contains__(self, job: StepJob) -> bool:
        return job.cell_id in self._runs

    def metrics(self, job: StepJob) -> Metrics:
        """Return the metrics of a traced step."""
        return _known(self._run(job).metrics, job)

    def counted(self, job: StepJob) -> dict[str, int]:
        """Return the numbers that the counting function of ``job`` returned."""
        return self._run(job).counted or {}

    def saved_bytes(self, job: StepJob) -> int:
        """Return the bytes that autograd keeps at the end of the forward pass."""
        return _known(self.metrics(job).saved_bytes, job)

    def peak_bytes(self, job: StepJob) -> int:
        """Return the step's peak of live bytes (requested bytes on CUDA)."""
        return _known(self.metrics(job).peak_live_bytes, job)

    def parts_at_peak(self, job: StepJob) -> dict[str, int]:
        """Return the live bytes at the peak by category."""
        parts: dict[str, int] = asdict(_known(self.metrics(job).categories_at_peak, job))
        return parts

    def allocated_bytes(self, job: StepJob) -> int:
        """Return the CUDA allocator's peak of allocated bytes."""
        return _known(_known(self.metrics(job).cuda, job).allocated_peak_bytes, job)

    def _run(self, job: StepJob) -> StepRun:
        if job.cell_id not in self._runs:
            raise AnalysisError(f"{job} is missing")
        return self._runs[job.cell_id]


def _known(value: _Known | None, job: StepJob) -> _Known:
    """Return ``value``; raise AnalysisError if it is None."""
    if value is None:
        raise AnalysisError(f"{job} has no such metric")
    return value


def well(runs: Iterable[StepRun]) -> Iterator[tuple[StepJob, dict[str, int]]]:
    """Yield each successful job, with the numbers that the job's function returned."""
    for run in runs:
        if not run.problem and run.counted is not None:
            yield run.job, run.counted


def no_answer(what: str, runs: Iterable[StepRun]) -> AnalysisError:
    """Return an AnalysisError that lists why the runs failed."""
    why = sorted({run.problem for run in runs if run.problem})
    return AnalysisError(what + "".join(f": {each}" for each in why))


def seen_on(runs: Iterable[StepRun]) -> str:
    """Return text with the PyTorch versions and the pretended GPUs of the runs."""
    seen = {f"torch {run.environment.get('torch')} on a dry run, {run.job.gpu}" for run in runs}
    return ", ".join(sorted(seen))
