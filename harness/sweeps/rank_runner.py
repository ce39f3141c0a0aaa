"""Runs one rank of many under the CUDA dry run, one at a time, each in a process of its own."""

import os
from collections.abc import Mapping
from concurrent.futures import Future

import msgspec

from harness.dry_run.dry_run_report import DryRunReport
from harness.dry_run.run import dry_run
from harness.dry_run.toolchain import DryRunUnavailableError
from harness.measurement.environment import PRETENDED
from harness.schema.events import Trace
from harness.schema.metrics import CudaPeaks
from harness.schema.rank_run import (
    ALONE,
    RANK_RUNS,
    Network,
    RankJob,
    RankMemory,
    RankRun,
    Strategy,
    from_json,
)
from harness.schema.record import Outcome, to_json
from harness.schema.units import format_bytes
from harness.schema.workload import Workload
from harness.sweeps.runner import Runner, ended, origin_of_line
from harness.sweeps.store import Kind

RANK_RUN = Kind(file=RANK_RUNS, encode=to_json, decode=from_json, cell=lambda one: one.cell_id)


def train(workload: Workload, strategy: Strategy, network: Network = "mlp") -> int | dict[str, int]:
    """Train a rank in this process, which imports PyTorch where the sweep's own does not."""
    from harness.training.one_rank import train_alone, train_rank

    if strategy in ALONE:
        return train_alone(workload, network, compiled=strategy == "compile")
    return train_rank(workload, strategy)


class RankRunner(Runner[RankJob, RankRun]):
    """Trains rank 0 of each job's world on a pretended GPU: the sweep's, or the default one."""

    kind = RANK_RUN
    guess_seconds = 8.0  # most of it is the start of a process

    def __init__(self, deadline_seconds: float) -> None:
        self._deadline_seconds = deadline_seconds

    def cell_id(self, job: RankJob) -> str:
        """Return the name of the job."""
        return job.cell_id

    def submit(self, job: RankJob, attempt: int) -> "Future[tuple[RankRun, Trace | None]]":
        """Run ``job`` now; the future that comes back has ended."""
        try:
            report = dry_run(
                train,
                job.workload,
                job.strategy,
                job.network,
                gpu=os.environ.get(PRETENDED),
                world_size=None if job.strategy in ALONE else job.world_size,
                deadline_seconds=self._deadline_seconds,
                quiet=True,
            )
        except DryRunUnavailableError as error:
            return ended(_line(job, attempt, Outcome.UNSUPPORTED, str(error), {}))
        outcome = Outcome(report.outcome)
        line = _line(job, attempt, outcome, report.evidence, report.environment)
        if outcome is Outcome.OK:
            line = msgspec.structs.replace(line, memory=_memory(report))
        return ended(line)

    def describe(self, line: RankRun) -> str:
        """Return strategy, world size and what is held."""
        held = "" if line.memory is None else f", {format_bytes(line.memory.held_requested_bytes)}"
        return f"{line.strategy}, {line.world_size:,} ranks: {line.outcome}{held}"


def _line(
    job: RankJob,
    attempt: int,
    outcome: Outcome,
    message: str | None,
    environment: Mapping[str, str],
) -> RankRun:
    return RankRun(
        workload=job.workload,
        strategy=job.strategy,
        world_size=job.world_size,
        network=job.network,
        outcome=outcome,
        evidence={} if message is None else {"message": message},
        attempt=attempt,
        environment={**origin_of_line(), **environment},
    )


def _memory(report: DryRunReport) -> RankMemory:
    if isinstance(report.returned, dict):
        seen = msgspec.convert(report.returned, dict[str, int])
        return RankMemory(
            held_requested_bytes=seen.pop("held"),
            kept_requested_bytes=seen.pop("kept"),
            cuda=CudaPeaks(**seen),
        )
    return RankMemory(
        held_requested_bytes=msgspec.convert(report.returned, int),
        cuda=CudaPeaks(**msgspec.structs.asdict(report.cuda)),
    )
