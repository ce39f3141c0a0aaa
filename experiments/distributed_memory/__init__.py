"""Many GPUs: what one rank holds under DDP, ZeRO and FSDP2, from 1 to 1,024 ranks.

The network is trained by rank 0 alone, by PyTorch's own process group and allocator on a
pretended GPU, over an NCCL that moves nothing. What NCCL holds lies outside the allocator and is
not in these bytes; docs/guides/dry-run.md states its range.
"""

import os
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pandas as pd

from harness.analysis.step_runs import no_answer, seen_on, well
from harness.measurement.environment import PRETENDED
from harness.prediction.mlp.formula import parameter_bytes
from harness.reporting.claim_figures import lines
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Figure, Section, Table, present
from harness.schema.traced_run import StepJob, StepRun
from harness.schema.units import format_bytes
from harness.schema.workload import Workload

from . import verdicts
from .closed_form import held_bytes
from .network import GPU, NAMES, NETWORK

WORLD_SIZES = {
    Size.QUICK: (1, 8),
    Size.DEFAULT: (1, 8, 64, 1024),
    Size.FULL: tuple(2**power for power in range(11)),
}


NAMED = ("depth", "width", "batch", "optimizer")
"""Fields of the network that a job names."""


def rank_jobs(size: Size) -> Iterable[StepJob]:
    """Return each way of sharing the work at each world size."""
    network = {name: getattr(NETWORK, name) for name in NAMED}
    for strategy in NAMES:
        for world_size in WORLD_SIZES[size]:
            yield StepJob(
                network=".one_rank:train",
                arguments={"strategy": strategy, "world_size": world_size, **network},
                device="cuda",
                gpu=os.environ.get(PRETENDED, GPU),
                counts=True,
            )


def analyse(evidence: Evidence) -> Section:
    """Compare what each rank holds with the closed form, and its peaks with one GPU's."""
    runs = evidence.step_runs
    table = as_frame(runs)
    if table.empty:
        raise no_answer("no rank run ended well", runs)
    good = {job.cell_id for job, _ in well(runs)}
    failed = Counter(run.job.arguments["strategy"] for run in runs if run.job.cell_id not in good)
    return Section(
        claims=present(
            verdicts.ddp(table, failed["ddp"]),
            verdicts.zero(table, failed["zero"]),
            verdicts.fsdp2(table, failed["fsdp2"]),
            verdicts.divided_peak(table, failed["fsdp2"]),
        ),
        text=(_method(table, runs), *_failures(runs)),
        tables=(Table(name="ranks", caption="Rank 0 at each world size", frame=table),),
        figures=(_figure(table),),
    )


def as_frame(runs: Iterable[StepRun]) -> pd.DataFrame:
    """Return a row for each run that ended well: what it holds, the closed form, its peaks."""
    rows = []
    for job, seen in well(runs):
        known: dict[str, Any] = {**job.arguments}
        strategy, world_size = known.pop("strategy"), known.pop("world_size")
        rows.append(
            {
                "strategy": NAMES[strategy],
                "world_size": world_size,
                "held_bytes": seen["held"],
                "closed_form_bytes": held_bytes(Workload(**known), strategy, world_size),
                "allocated_peak_bytes": seen["allocated_peak_bytes"],
                "reserved_peak_bytes": seen["reserved_peak_bytes"],
            }
        )
    return pd.DataFrame(rows)


def _method(table: pd.DataFrame, runs: Iterable[StepRun]) -> str:
    equal = int((table["held_bytes"] == table["closed_form_bytes"]).sum())
    return (
        f"An MLP of {NETWORK.depth} hidden layers of width {NETWORK.width:,} "
        f"({format_bytes(parameter_bytes(NETWORK))} of parameters) was trained with AdamW and "
        f"{NETWORK.batch} examples a rank. Rank 0 ran three steps with an NCCL that moves no data "
        f"({seen_on(runs)}). {equal} of {len(table)} rank runs hold the bytes of the closed form. "
        "These bytes do not include NCCL's own memory, which is outside PyTorch's allocator."
    )


def _failures(runs: Iterable[StepRun]) -> list[str]:
    return [f"{run.job} is missing: {run.problem}" for run in runs if run.problem]


def _figure(table: pd.DataFrame) -> Figure:
    held = table.assign(
        panel="Held between steps", bytes=table["held_bytes"], fit=table["closed_form_bytes"]
    )
    peak = table.assign(panel="Peak of a step", bytes=table["allocated_peak_bytes"])
    law = [
        (held["panel"].iloc[0], NAMES[name], ranks, held_bytes(NETWORK, name, ranks))
        for name in NAMES
        for ranks in WORLD_SIZES[Size.FULL]
        if NAMES[name] in set(held["strategy"]) and ranks <= held["world_size"].max()
    ]
    laws = pd.DataFrame(law, columns=["panel", "strategy", "world_size", "fit"])
    data = pd.concat([held.drop(columns="fit"), peak], ignore_index=True)
    data = data.merge(laws, "outer", on=["panel", "strategy", "world_size"])
    return lines(
        "ranks",
        "Memory of rank 0 against the number of ranks: between steps (left) and at the "
        "peak (right, allocated bytes). Points are measured, and lines are the closed form. "
        "FSDP2's peak approaches the part that ranks do not divide.",
        data[["panel", "strategy", "world_size", "bytes", "fit"]],
        x="world_size",
        y="bytes",
        line="strategy",
        line_label="",
        label="bytes of a rank",
        x_label="ranks",
        scale="doubling bytes",
    )


EXPERIMENT = Experiment(
    order=105,
    title="Many GPUs",
    question="What does one rank of many hold under DDP, ZeRO and FSDP2?",
    step_jobs=rank_jobs,
    analyse=analyse,
    gpu_alone="a rank of many runs under the CUDA dry run; use --device cuda",
)
