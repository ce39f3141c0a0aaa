"""The traced steps of one experiment, and the counts of its own functions."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from msgspec.structs import asdict

from harness.analysis import AnalysisError
from harness.schema.metrics import Metrics
from harness.schema.traced_run import StepJob, StepRun

_Known = TypeVar("_Known")


class Steps:
    """Steps of one experiment that ended well, by job."""

    def __init__(self, runs: Mapping[str, StepRun]) -> None:
        self._runs = runs

    def __contains__(self, job: StepJob) -> bool:
        return job.cell_id in self._runs

    def metrics(self, job: StepJob) -> Metrics:
        """Return the metrics of a traced step."""
        return _known(self._run(job).metrics, job)

    def counted(self, job: StepJob) -> dict[str, int]:
        """Return the counts of a function."""
        return self._run(job).counted or {}

    def saved_bytes(self, job: StepJob) -> int:
        """Return the bytes that autograd holds at the end of the forward pass."""
        return _known(self.metrics(job).saved_bytes, job)

    def peak_bytes(self, job: StepJob) -> int:
        """Return the step's peak of live bytes; on CUDA, of requested bytes."""
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
    """Return a metric; raise an error if it is unknown."""
    if value is None:
        raise AnalysisError(f"{job} has no such metric")
    return value


def well(runs: Iterable[StepRun]) -> Iterator[tuple[StepJob, dict[str, int]]]:
    """Yield the jobs that ended well, each with its counts."""
    for run in runs:
        if not run.problem and run.counted is not None:
            yield run.job, run.counted


def no_answer(what: str, runs: Iterable[StepRun]) -> AnalysisError:
    """Return an error with the reasons why no run can be used."""
    why = sorted({run.problem for run in runs if run.problem})
    return AnalysisError(what + "".join(f": {each}" for each in why))


def seen_on(runs: Iterable[StepRun]) -> str:
    """Return the names of the PyTorch versions and of the pretended GPUs."""
    seen = {f"torch {run.environment.get('torch')} on a dry run, {run.job.gpu}" for run in runs}
    return ", ".join(sorted(seen))
