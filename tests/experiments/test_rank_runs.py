"""Planted runs of ranks and of compiled steps; closed forms against shards cut one by one."""

from pathlib import Path
from types import ModuleType

from experiments import compiled_memory, distributed_memory
from experiments.distributed_memory.closed_form import held_bytes
from experiments.distributed_memory.network import NAMES, NETWORK
from harness.analysis.frame import load_files
from harness.schema.experiment import Evidence, Size
from harness.schema.findings import Section, Verdict
from harness.schema.metrics import CudaPeaks
from harness.schema.rank_run import RANK_RUNS, RankJob, RankMemory, RankRun, from_json
from harness.schema.record import Outcome, to_json
from tests.experiments.predicted_records import named

REFERENCE = Path(__file__).parents[2] / "results" / "reference-cuda-dry-run" / "distributed_memory"


def ran(job: RankJob, *, peak: int, held: int = 1, kept: int = 1) -> RankRun:
    memory = RankMemory(
        held_requested_bytes=held,
        kept_requested_bytes=kept,
        cuda=CudaPeaks(allocated_peak_bytes=peak),
    )
    return RankRun(
        workload=job.workload,
        strategy=job.strategy,
        world_size=job.world_size,
        network=job.network,
        outcome=Outcome.OK,
        memory=memory,
    )


def section(experiment: ModuleType, folder: Path, runs: list[RankRun]) -> Section:
    (folder / RANK_RUNS).write_bytes(b"".join(to_json(one) + b"\n" for one in runs))
    result: Section = experiment.analyse(Evidence(frame=load_files([]), folder=folder))
    return result


def test_the_verdicts_are_those_planted(tmp_path: Path) -> None:
    runs = [
        ran(
            job,
            held=held_bytes(job.workload, job.strategy, job.world_size),
            peak=2**30 // job.world_size,
        )
        for job in distributed_memory.rank_runs(Size.DEFAULT)
    ]
    result = section(distributed_memory, tmp_path, runs)
    assert named(result, "Under DDP").verdict is Verdict.SUPPORTED
    assert named(result, "ZeRO").verdict is Verdict.LIMITED
    assert named(result, "FSDP2 divides all").verdict is Verdict.SUPPORTED
    assert named(result, "peak").verdict is Verdict.SUPPORTED
    assert named(result, "peak").number == "1.02e+03 times less with 1,024 ranks"


def test_a_byte_that_differs_is_not_what_the_closed_form_says(tmp_path: Path) -> None:
    jobs = [job for job in distributed_memory.rank_runs(Size.QUICK) if job.strategy == "ddp"]
    held = held_bytes(NETWORK, "ddp", 1)
    runs = [ran(job, held=held + (job.world_size == 8), peak=2**30) for job in jobs]
    claim = named(section(distributed_memory, tmp_path, runs), "Under DDP")
    assert claim.verdict is Verdict.REFUTED
    assert claim.number == "equal to the byte at 1 of 2 world sizes"


def test_the_reference_runs_are_complete_and_equal_to_the_closed_form() -> None:
    runs = [from_json(line) for line in (REFERENCE / RANK_RUNS).read_bytes().splitlines()]
    jobs = {
        RankJob(workload=NETWORK.replace(device="cuda"), strategy=strategy, world_size=size).cell_id
        for strategy in NAMES
        for size in (1, 8, 64, 1024)
    }
    assert {run.cell_id for run in runs} >= jobs
    table = distributed_memory.as_frame(runs)
    assert len(table) == len(runs)
    assert (table["held_bytes"] == table["closed_form_bytes"]).all()


def test_the_verdicts_on_compiled_code_are_those_planted(tmp_path: Path) -> None:
    """ReLU: nothing is saved. GELU: of what is kept always, of the peak at depth 2 alone.

    The transformer: the peak alone.
    """
    runs = []
    for job in compiled_memory.rank_runs(Size.QUICK):
        compiled = job.strategy == "compile"
        saves = compiled and job.workload.activation == "gelu"
        kept = 600 if saves else 999 if compiled else 1000
        peak = 900 if saves and job.workload.depth == 2 else 1000
        if compiled and job.network == "transformer":
            peak = 800
        runs.append(ran(job, kept=kept, peak=peak))
    result = section(compiled_memory, tmp_path, runs)
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
