"""Verdicts on compiled code, from planted runs."""

from pathlib import Path

from experiments import compiled_memory as experiment
from harness.analysis.frame import load_files
from harness.schema.experiment import Evidence, Size
from harness.schema.findings import Section, Verdict
from harness.schema.metrics import CudaPeaks
from harness.schema.rank_run import RANK_RUNS, RankJob, RankMemory, RankRun
from harness.schema.record import Outcome, to_json
from tests.experiments.verdicts import named


def run(job: RankJob, kept: int, peak: int) -> RankRun:
    return RankRun(
        workload=job.workload,
        strategy=job.strategy,
        world_size=1,
        network=job.network,
        outcome=Outcome.OK,
        memory=RankMemory(
            held_requested_bytes=1,
            kept_requested_bytes=kept,
            cuda=CudaPeaks(allocated_peak_bytes=peak),
        ),
    )


def section(folder: Path, runs: list[RankRun]) -> Section:
    (folder / RANK_RUNS).write_bytes(b"".join(to_json(one) + b"\n" for one in runs))
    return experiment.analyse(Evidence(frame=load_files([]), folder=folder))


def test_the_verdicts_are_those_planted(tmp_path: Path) -> None:
    """ReLU: nothing is saved. GELU: of what is kept always, of the peak at depth 2 alone.

    The transformer: the peak alone.
    """
    runs = []
    for job in experiment.rank_runs(Size.QUICK):
        compiled = job.strategy == "compile"
        saves = compiled and job.workload.activation == "gelu"
        kept = 600 if saves else 999 if compiled else 1000
        peak = 900 if saves and job.workload.depth == 2 else 1000
        if compiled and job.network == "transformer":
            peak = 800
        runs.append(run(job, kept, peak))
    result = section(tmp_path, runs)
    verdicts = [claim.verdict for claim in result.claims]
    assert verdicts == [
        *(Verdict.REFUTED, Verdict.REFUTED),
        *(Verdict.SUPPORTED, Verdict.LIMITED),
        *(Verdict.REFUTED, Verdict.SUPPORTED),
    ]
    assert named(result, "the allocated peak (transformer").number == "0.8 of eager"
    claim = named(result, "what the forward pass keeps (GELU")
    assert claim.number == "0.6 of eager"
    assert claim.measured.startswith("At least 1% less in 2 of 2 cells; at depth ")
