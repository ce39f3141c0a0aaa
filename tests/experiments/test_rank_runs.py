"""Planted runs of ranks and of compiled steps; closed forms against shards cut one by one."""

from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from experiments import compiled_memory, distributed_memory
from experiments.compiled_memory.one_gpu import TransformerBlock
from experiments.distributed_memory.closed_form import held_bytes
from experiments.distributed_memory.network import NAMES, NETWORK
from harness.analysis.frame import load_files
from harness.analysis.step_runs import last_runs
from harness.schema.experiment import Evidence, Size
from harness.schema.findings import Section, Verdict
from harness.schema.record import Outcome, to_json
from harness.schema.traced_run import STEP_RUNS, StepJob, StepRun
from tests.experiments.predicted_records import named

REFERENCE = Path(__file__).parents[2] / "results" / "reference-cuda-dry-run" / "distributed_memory"


def ran(job: StepJob, *, peak: int, **counted: int) -> StepRun:
    counted |= {"allocated_peak_bytes": peak, "reserved_peak_bytes": peak}
    return StepRun(job=job, outcome=Outcome.OK, counted=counted)


def section(experiment: ModuleType, folder: Path, runs: list[StepRun]) -> Section:
    (folder / STEP_RUNS).write_bytes(b"".join(to_json(one) + b"\n" for one in runs))
    result: Section = experiment.analyse(Evidence(frame=load_files([]), folder=folder))
    return result


def test_the_verdicts_are_those_planted(tmp_path: Path) -> None:
    runs = []
    for job in distributed_memory.rank_jobs(Size.DEFAULT):
        known: dict[str, Any] = {**job.arguments}
        strategy, ranks = known["strategy"], known["world_size"]
        runs.append(ran(job, held=held_bytes(NETWORK, strategy, ranks), peak=2**30 // ranks))
    result = section(distributed_memory, tmp_path, runs)
    assert named(result, "Under DDP").verdict is Verdict.SUPPORTED
    assert named(result, "ZeRO").verdict is Verdict.LIMITED
    assert named(result, "FSDP2 divides all").verdict is Verdict.SUPPORTED
    assert named(result, "peak").verdict is Verdict.SUPPORTED
    assert named(result, "peak").number == "1.02e+03 times less with 1,024 ranks"


def test_a_byte_that_differs_is_not_what_the_closed_form_says(tmp_path: Path) -> None:
    every = distributed_memory.rank_jobs(Size.QUICK)
    jobs = [job for job in every if job.arguments["strategy"] == "ddp"]
    held = held_bytes(NETWORK, "ddp", 1)
    runs = [ran(job, held=held + (job.arguments["world_size"] == 8), peak=2**30) for job in jobs]
    claim = named(section(distributed_memory, tmp_path, runs), "Under DDP")
    assert claim.verdict is Verdict.REFUTED
    assert claim.number == "equal to the byte at 1 of 2 world sizes"


def test_the_reference_runs_are_complete_and_equal_to_the_closed_form() -> None:
    runs = last_runs(REFERENCE)
    cells = {(run.job.arguments["strategy"], run.job.arguments["world_size"]) for run in runs}
    assert cells >= {(strategy, size) for strategy in NAMES for size in (1, 8, 64, 1024)}
    table = distributed_memory.as_frame(runs)
    assert len(table) == len(runs)
    assert (table["held_bytes"] == table["closed_form_bytes"]).all()


def test_the_verdicts_on_compiled_code_are_those_planted(tmp_path: Path) -> None:
    """ReLU: nothing is saved. GELU: of what is kept always, of the peak at depth 2 alone.

    The transformer: the peak alone.
    """
    runs = []
    for job in compiled_memory.jobs(Size.QUICK):
        compiled = job.arguments["compiled"]
        saves = compiled and job.arguments.get("activation") == "gelu"
        kept = 600 if saves else 999 if compiled else 1000
        peak = 900 if saves and job.arguments["depth"] == 2 else 1000
        if compiled and job.arguments["network"] == "transformer":
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


def test_a_transformer_block_computes_what_pytorch_s_layer_does() -> None:
    torch.manual_seed(0)
    block = TransformerBlock(128).eval()
    layer = nn.TransformerEncoderLayer(
        128, 2, 512, activation="gelu", batch_first=True, norm_first=True
    ).eval()
    ours = {
        "self_attn.in_proj_": block.qkv, "self_attn.out_proj.": block.out,
        "norm1.": block.attention_norm, "norm2.": block.norm,
        "linear1.": block.mlp[0], "linear2.": block.mlp[2],
    }  # fmt: skip
    state = {
        f"{name}{k}": v for name, module in ours.items() for k, v in module.state_dict().items()
    }
    layer.load_state_dict(state)
    x = torch.randn(3, 5, 128)
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    torch.testing.assert_close(block(x), layer(x, src_mask=mask, is_causal=True))
