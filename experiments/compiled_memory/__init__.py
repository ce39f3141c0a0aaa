"""Measures how much ``torch.compile`` lowers the kept bytes and the peak.

Networks are trained without and with ``torch.compile`` (Inductor), on a pretended GPU with
PyTorch's own allocator. The networks are the course note's MLP, an MLP with GELU, layer
normalization and dropout between its matmuls, and blocks of a transformer. Peaks are measured after
the first step, because the autotuner allocates memory in the first step.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping

import pandas as pd

from harness.analysis.claim_data import text
from harness.analysis.claim_judge import judged
from harness.analysis.step_runs import no_answer, seen_on, well
from harness.processes.environment import PRETENDED
from harness.reporting.claim_figures import picture
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Figure, Section, Table, present
from harness.schema.traced_run import StepJob, StepRun

Grid = tuple[tuple[int, ...], tuple[int, ...]]
"""The depths and the batch sizes to measure."""

GPU = "a100-40gb"
"""GPU that is pretended unless the user selects another GPU."""

WIDTH = 512
TOKENS = 128
"""Number of tokens in an example of the transformer."""

MLPS: dict[str, dict[str, str | float]] = {
    "ReLU": {"activation": "relu"},
    "GELU, norm, dropout": {"activation": "gelu", "norm": "layer", "dropout": 0.1},
}
"""The course note's network, and a network with further operators between its matmuls."""
GRID: Mapping[Size, Grid] = {
    Size.QUICK: ((2, 4), (1024,)),
    Size.DEFAULT: ((2, 4, 8), (256, 1024, 4096)),
    Size.FULL: ((2, 4, 8, 16, 32), (256, 1024, 4096, 16384)),
}

BLOCKS: Mapping[Size, Grid] = {
    Size.QUICK: ((2,), (8,)),
    Size.DEFAULT: ((2, 4), (2, 8, 32)),
    Size.FULL: ((2, 4, 8, 16), (2, 8, 32, 128)),
}
"""Depths and batches of the transformer. A batch of the transformer has as many tokens as a batch
of the MLP has examples."""

COMPILED = {"eager": False, "compile": True}
COLUMNS = ("kept", "peak")


def jobs(size: Size) -> Iterable[StepJob]:
    """Yield a job for each network, depth and batch, without and with ``torch.compile``."""
    for network in MLPS.values():
        yield from _jobs("mlp", GRID[size], network)
    yield from _jobs("transformer", BLOCKS[size], {"in_features": WIDTH * TOKENS})


def _jobs(network: str, grid: Grid, options: Mapping[str, str | float]) -> Iterable[StepJob]:
    for depth in grid[0]:
        for batch in grid[1]:
            for compiled in COMPILED.values():
                made = {"network": network, "compiled": compiled, "width": WIDTH, **options}
                yield StepJob(
                    network=".one_gpu:train",
                    arguments={**made, "depth": depth, "batch": batch},
                    device="cuda",
                    gpu=os.environ.get(PRETENDED, GPU),
                    counts=True,
                )


def analyse(evidence: Evidence) -> Section:
    """Compare each compiled network with the uncompiled network of the same depth and batch."""
    runs = evidence.step_runs
    table = as_frame(runs)
    if table.empty:
        raise no_answer("no pair of runs ended well", runs)
    wanted = Counter(_name(run.job.arguments) for run in runs)
    networks = dict.fromkeys(table["network"])
    return Section(
        claims=tuple(
            judged(__file__, what, table, missing=lost, network=network)
            for network in networks
            for lost in [
                wanted[network] // len(COMPILED) - int((table["network"] == network).sum())
            ]
            for what in COLUMNS
        ),
        text=(text(__file__, "method", pairs=len(table), seen=seen_on(runs), tokens=TOKENS),),
        tables=(
            Table(
                name="compiled",
                caption="Kept bytes and peak of eager and of compiled code",
                frame=table,
            ),
        ),
        figures=present(_figure(table)),
    )


def as_frame(runs: Iterable[StepRun]) -> pd.DataFrame:
    """Return a row for each network, depth and batch that ran both uncompiled and compiled."""
    rows: dict[tuple[object, ...], dict[str, int]] = {}
    for job, seen in well(runs):
        named = job.arguments
        row = rows.setdefault((_name(named), named["depth"], named["batch"]), {})
        how = "compile" if named["compiled"] else "eager"
        row[f"{how}_kept_bytes"] = seen["kept"]
        row[f"{how}_peak_bytes"] = seen["allocated_peak_bytes"]
    table = pd.DataFrame(
        {"network": network, "depth": depth, "batch": batch, **row}
        for (network, depth, batch), row in rows.items()
        if len(row) == 2 * len(COMPILED)
    )
    for what in COLUMNS if len(table) else ():
        table[f"{what}_ratio"] = table[f"compile_{what}_bytes"] / table[f"eager_{what}_bytes"]
    return table


def _name(arguments: Mapping[str, object]) -> object:
    activation = arguments.get("activation")
    known = (name for name, one in MLPS.items() if one["activation"] == activation)
    return next(known, arguments["network"])


def _figure(table: pd.DataFrame) -> Figure | None:
    largest = table[table["batch"] == table.groupby("network")["batch"].transform("max")]
    parts = [
        largest.assign(
            panel=largest["network"],
            line=what,
            bytes=largest[f"compile_{what}_bytes"],
            fit=largest[f"eager_{what}_bytes"],
        )
        for what in COLUMNS
    ]
    columns = ["panel", "line", "depth", "bytes", "fit"]
    return picture(__file__, "compiled", pd.concat(parts, ignore_index=True)[columns])


EXPERIMENT = Experiment(
    order=107,
    title="Compiled code",
    question="How much of the kept bytes and of the peak does torch.compile save?",
    step_jobs=jobs,
    analyse=analyse,
    gpu_alone="Inductor's code for a GPU is compiled under the CUDA dry run; use --device cuda",
)
