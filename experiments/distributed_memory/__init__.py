"""Many GPUs: what one rank holds under DDP, ZeRO and FSDP2, from 1 to 1,024 ranks.

The network is trained by rank 0 alone, with PyTorch's fake process group in place of NCCL and
its own allocator on a pretended GPU. What NCCL holds lies outside the allocator and is not in
these bytes; docs/guides/dry-run.md states its range.
"""

from collections.abc import Iterable

import pandas as pd

from harness.analysis.frame import last_rank_runs, no_answer, seen_on
from harness.plots.series import memory_panels
from harness.prediction.mlp.formula import parameter_bytes
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Figure, Section, Table
from harness.schema.rank_run import RankJob, RankRun
from harness.schema.record import Outcome
from harness.schema.units import format_bytes

from . import verdicts
from .closed_form import held_bytes
from .network import NAMES, NETWORK

WORLD_SIZES = {
    Size.QUICK: (1, 8),
    Size.DEFAULT: (1, 8, 64, 1024),
    Size.FULL: tuple(2**power for power in range(11)),
}


def rank_runs(size: Size) -> Iterable[RankJob]:
    """Return each way of sharing the work at each world size."""
    for strategy in NAMES:
        for world_size in WORLD_SIZES[size]:
            yield RankJob(workload=NETWORK, strategy=strategy, world_size=world_size)


def analyse(evidence: Evidence) -> Section:
    """Compare what each rank holds with the closed form, and its peaks with one GPU's."""
    runs = last_rank_runs(evidence.folder)
    table = as_frame(runs)
    if table.empty:
        raise no_answer("no rank run ended well", runs)
    return Section(
        claims=(
            *verdicts.ddp(table),
            *verdicts.zero(table),
            *verdicts.fsdp2(table),
            *verdicts.divided_peak(table),
        ),
        text=(_method(table, runs), *_failures(runs)),
        tables=(Table(name="ranks", caption="Rank 0 at each world size", frame=table),),
        figures=(_figure(table),),
    )


def as_frame(runs: Iterable[RankRun]) -> pd.DataFrame:
    """Return a row for each run that ended well: what it holds, the closed form, its peaks."""
    rows = [
        {
            "strategy": NAMES[run.strategy],
            "world_size": run.world_size,
            "held_bytes": run.memory.held_requested_bytes,
            "closed_form_bytes": held_bytes(run.workload, run.strategy, run.world_size),
            "allocated_peak_bytes": run.memory.cuda.allocated_peak_bytes,
            "reserved_peak_bytes": run.memory.cuda.reserved_peak_bytes,
        }
        for run in runs
        if run.outcome is Outcome.OK and run.memory is not None
    ]
    return pd.DataFrame(rows)


def _method(table: pd.DataFrame, runs: Iterable[RankRun]) -> str:
    equal = int((table["held_bytes"] == table["closed_form_bytes"]).sum())
    return (
        f"An MLP of {NETWORK.depth} hidden layers of width {NETWORK.width:,} "
        f"({format_bytes(parameter_bytes(NETWORK))} of parameters), AdamW, {NETWORK.batch} "
        "examples a rank, three steps by rank 0 with PyTorch's fake process group "
        f"({seen_on(runs)}). {equal} of {len(table)} rank runs hold what the closed "
        "form says, to the byte. What NCCL holds is outside PyTorch's allocator and not in these "
        "bytes."
    )


def _failures(runs: Iterable[RankRun]) -> list[str]:
    return [
        f"{NAMES[run.strategy]} at world size {run.world_size:,} is missing: {run.outcome}, "
        f"{run.evidence.get('message', 'without a message')}"
        for run in runs
        if run.outcome is not Outcome.OK
    ]


def _figure(table: pd.DataFrame) -> Figure:
    held = table.assign(
        panel="Held between steps", bytes=table["held_bytes"], fit=table["closed_form_bytes"]
    )
    peak = table.assign(panel="Peak of a step", bytes=table["allocated_peak_bytes"])
    data = pd.concat([held, peak], ignore_index=True)
    return Figure(
        name="ranks",
        caption="Memory of rank 0 against the number of ranks. Left, between steps: points are "
        "measured, lines are the closed form. Right, the peak of allocated memory: FSDP2's ends "
        "at what no number of ranks divides.",
        data=data[["panel", "strategy", "world_size", "bytes", "fit"]],
        draw=memory_panels("world_size", "strategy", label="bytes of a rank", x_label="ranks"),
        size=(8.6, 4.2),
    )


EXPERIMENT = Experiment(
    order=105,
    title="Many GPUs",
    question="What does one rank of many hold under DDP, ZeRO and FSDP2?",
    rank_runs=rank_runs,
    analyse=analyse,
    gpu_alone="a rank of many runs under the CUDA dry run; use --device cuda",
)
