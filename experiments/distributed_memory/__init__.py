"""Measures the memory of one rank under DDP, ZeRO and FSDP2, for 1 to 1,024 ranks.

Only rank 0 trains the network, on a pretended GPU with PyTorch's own process group and allocator.
NCCL is replaced by a version that does not move data. The real NCCL allocates memory outside
PyTorch's allocator; this memory is not included, but docs/guides/dry-run.md states its range.
"""

import os
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pandas as pd

from harness.analysis.claim_data import text
from harness.analysis.claim_judge import judged
from harness.analysis.claim_numbers import Amount
from harness.analysis.step_runs import no_answer, seen_on, well
from harness.prediction.mlp.formula import parameter_bytes
from harness.processes.environment import PRETENDED
from harness.reporting.claim_figures import picture
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Claim, Figure, Section, Table, present
from harness.schema.traced_run import StepJob, StepRun
from harness.schema.units import format_bytes
from harness.schema.workload import Workload

from .closed_form import held_bytes, owned_bytes
from .network import GPU, NAMES, NETWORK

WORLD_SIZES = {
    Size.QUICK: (1, 8),
    Size.DEFAULT: (1, 8, 64, 1024),
    Size.FULL: tuple(2**power for power in range(11)),
}


NAMED = ("depth", "width", "batch", "optimizer")
"""Fields of NETWORK that become arguments of a job."""


def rank_jobs(size: Size) -> Iterable[StepJob]:
    """Yield a job for each strategy and world size."""
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
    """Compare rank 0's bytes with the closed form, and rank 0's peak with a single GPU's peak."""
    runs = evidence.step_runs
    table = as_frame(runs)
    if table.empty:
        raise no_answer("no rank run ended well", runs)
    asked = Counter(NAMES[run.job.arguments["strategy"]] for run in runs)  # type: ignore[index]
    strategies = {"ddp": "DDP", "zero": "ZeRO", "fsdp2": "FSDP2", "divided_peak": "FSDP2"}
    return Section(
        claims=tuple(
            _claim(name, strategy, table, asked[strategy])
            for name, strategy in strategies.items()
            if (table["strategy"] == strategy).any()
        ),
        text=(_method(table, runs),),
        tables=(Table(name="ranks", caption="Rank 0 at each world size", frame=table),),
        figures=present(_figure(table)),
    )


def _claim(name: str, strategy: str, table: pd.DataFrame, asked: int) -> Claim:
    own = table[table["strategy"] == strategy].sort_values("world_size")
    column = "allocated_peak_bytes" if name == "divided_peak" else "held_bytes"
    ends = " and ".join(
        f"{format_bytes(int(row[column]))} at world size {row['world_size']:,}"
        for _, row in own.iloc[[0, -1]].iterrows()
    )
    most = int(own["world_size"].max())
    equal = int((own["held_bytes"] == own["closed_form_bytes"]).sum())
    return judged(
        __file__,
        name,
        _as_claimed(table),
        missing=asked - len(own),
        derived=None if name == "divided_peak" else (equal, len(own)),
        ends=ends,
        most=most,
        owned=Amount(owned_bytes(NETWORK, most)),
        parameters=Amount(parameter_bytes(NETWORK)),
    )


def _as_claimed(table: pd.DataFrame) -> pd.DataFrame:
    """Add columns with rank 0's bytes, divided by the bytes that the claims state."""
    whole, ranks, held = parameter_bytes(NETWORK), table["world_size"], table["held_bytes"]
    peaks = table.sort_values("world_size").groupby("strategy")["allocated_peak_bytes"]
    alone = peaks.first().where(table.groupby("strategy")["world_size"].min() == 1)
    return table.assign(
        **{"world size": ranks},
        of_four=held / (4 * whole),
        of_share=held * ranks / (4 * whole),
        of_state_share=(held - 2 * whole) * ranks / (2 * whole),
        of_peak_share=table["allocated_peak_bytes"] * ranks / table["strategy"].map(alone),
    )


def as_frame(runs: Iterable[StepRun]) -> pd.DataFrame:
    """Return a row per run with the peaks and the measured and calculated bytes between steps."""
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
    return text(
        __file__,
        "method",
        depth=NETWORK.depth,
        width=NETWORK.width,
        batch=NETWORK.batch,
        parameters=format_bytes(parameter_bytes(NETWORK)),
        seen=seen_on(runs),
        equal=int((table["held_bytes"] == table["closed_form_bytes"]).sum()),
        total=len(table),
    )


def _figure(table: pd.DataFrame) -> Figure | None:
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
    return picture(__file__, "ranks", data[["panel", "strategy", "world_size", "bytes", "fit"]])


EXPERIMENT = Experiment(
    order=105,
    title="Many GPUs",
    question="How much memory does one of many ranks hold under DDP, ZeRO and FSDP2?",
    step_jobs=rank_jobs,
    analyse=analyse,
    gpu_alone="a rank of many runs under the CUDA dry run; use --device cuda",
)
