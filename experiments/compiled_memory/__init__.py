"""Compiled code: what ``torch.compile`` saves of what is kept, and of the peak.

The same network is trained as it is written and through ``torch.compile`` (Inductor), on a
pretended GPU with PyTorch's own allocator: the note's MLP; one with what stands between the matmuls
of today's networks (GELU, layer normalization, dropout); and blocks of a transformer. The peaks are
those of a later step: what the autotuner allocates in the first one is not in them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pandas as pd

from harness.analysis.frame import last_rank_runs, no_answer, seen_on
from harness.plots.series import memory_panels
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Claim, Figure, Section, Table, Verdict
from harness.schema.rank_run import ALONE, TOKENS, RankJob, RankRun
from harness.schema.record import Outcome
from harness.schema.units import format_bytes
from harness.schema.workload import Workload

Grid = tuple[tuple[int, ...], tuple[int, ...]]
"""Depths and batches."""

MLPS = {
    "ReLU": Workload(width=512, activation="relu"),
    "GELU, norm, dropout": Workload(width=512, activation="gelu", norm="layer", dropout=0.1),
}
"""The note's network, and one with more between its matmuls."""
GRID: Mapping[Size, Grid] = {
    Size.QUICK: ((2, 4), (1024,)),
    Size.DEFAULT: ((2, 4, 8), (256, 1024, 4096)),
    Size.FULL: ((2, 4, 8, 16, 32), (256, 1024, 4096, 16384)),
}

TRANSFORMER = Workload(width=512, in_features=512 * TOKENS)
BLOCKS: Mapping[Size, Grid] = {
    Size.QUICK: ((2,), (8,)),
    Size.DEFAULT: ((2, 4), (2, 8, 32)),
    Size.FULL: ((2, 4, 8, 16), (2, 8, 32, 128)),
}
"""Blocks, and sequences of ``TOKENS`` tokens: as many rows as an example of the MLP has."""

LESS = 0.99
"""A cell counts as saving if compiled code needs less than this part of what eager code needs."""

COLUMNS = {"kept": "what the forward pass keeps", "peak": "the allocated peak"}


def rank_runs(size: Size) -> Iterable[RankJob]:
    """Return each network at each depth and batch, as it is written and compiled."""
    for network in MLPS.values():
        yield from _jobs(RankJob(workload=network, strategy="eager", world_size=1), GRID[size])
    yield from _jobs(
        RankJob(workload=TRANSFORMER, strategy="eager", world_size=1, network="transformer"),
        BLOCKS[size],
    )


def _jobs(job: RankJob, grid: Grid) -> Iterable[RankJob]:
    for depth in grid[0]:
        for batch in grid[1]:
            workload = job.workload.replace(depth=depth, batch=batch)
            for strategy in ALONE:
                yield replace(job, workload=workload, strategy=strategy)


def analyse(evidence: Evidence) -> Section:
    """Compare compiled with eager, cell by cell."""
    runs = last_rank_runs(evidence.folder)
    table = as_frame(runs)
    if table.empty:
        raise no_answer("no pair of runs ended well", runs)
    return Section(
        claims=tuple(
            claim
            for network, cells in table.groupby("network", sort=False)
            for claim in judge(str(network), cells)
        ),
        text=(_method(table, runs),),
        tables=(Table(name="compiled", caption="Eager and compiled", frame=table),),
        figures=(_figure(table),),
    )


def as_frame(runs: Iterable[RankRun]) -> pd.DataFrame:
    """Return a row for each network, depth and batch that ended well both ways."""
    rows: dict[tuple[str, int, int], dict[str, int]] = {}
    for run in runs:
        if run.outcome is Outcome.OK and run.memory is not None:
            key = (_name(run), run.workload.depth, run.workload.batch)
            row = rows.setdefault(key, {})
            row[f"{run.strategy}_kept_bytes"] = run.memory.kept_requested_bytes or 0
            row[f"{run.strategy}_peak_bytes"] = run.memory.cuda.allocated_peak_bytes or 0
    table = pd.DataFrame(
        {"network": network, "depth": depth, "batch": batch, **row}
        for (network, depth, batch), row in rows.items()
        if len(row) == 2 * len(ALONE)
    )
    for what in COLUMNS if len(table) else ():
        table[f"{what}_ratio"] = table[f"compile_{what}_bytes"] / table[f"eager_{what}_bytes"]
    return table


def _name(run: RankRun) -> str:
    if run.network != "mlp":
        return run.network
    activation = run.workload.activation
    return next((name for name, one in MLPS.items() if one.activation == activation), activation)


def judge(network: str, cells: pd.DataFrame) -> Iterable[Claim]:
    """Judge the sentence that compiling saves memory, of what is kept and of the peak."""
    for what, words in COLUMNS.items():
        ratio = cells[f"{what}_ratio"]
        saves = ratio < LESS
        verdict = (
            Verdict.SUPPORTED
            if saves.all()
            else Verdict.LIMITED
            if saves.any()
            else Verdict.REFUTED
        )
        ends = dict.fromkeys(f"{end:.3g}" for end in (ratio.min(), ratio.max()))
        number = f"{'–'.join(ends)} of eager"
        largest = cells.sort_values(f"eager_{what}_bytes").iloc[-1]
        eager, compiled = (format_bytes(int(largest[f"{s}_{what}_bytes"])) for s in ALONE)
        yield Claim(
            sentence=f"Compiling lowers {words} ({network}).",
            headline=f"{network}: compiling lowers {words}",
            verdict=verdict,
            measured=f"At least 1% less in {int(saves.sum())} of {len(cells)} cells; at depth"
            f" {largest['depth']} and batch {largest['batch']:,}: {compiled}, eager {eager}.",
            number=number,
        )


def _method(table: pd.DataFrame, runs: Iterable[RankRun]) -> str:
    return (
        f"{len(table)} pairs of networks of width 512 with SGD, three steps, fullgraph=True"
        f" ({seen_on(runs)}); a transformer's example is a sequence of {TOKENS} tokens. Kept:"
        " requested by the last forward pass and alive at its end. A matmul needs its input in"
        " the backward pass, compiled or not: with ReLU that input is all that is kept, so there"
        " is nothing to save. Compiled code computes again what stands between two matmuls, but"
        " keeps a matmul's input also where it could be computed again."
    )


def _figure(table: pd.DataFrame) -> Figure:
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
    data = pd.concat(parts, ignore_index=True)
    return Figure(
        name="compiled",
        caption="Memory against depth at each network's largest batch: points are compiled, lines"
        " are eager. Kept by the forward pass, and the allocated peak of a step.",
        data=data[["panel", "line", "depth", "bytes", "fit"]],
        draw=memory_panels("depth", "line", label="bytes", x_label="depth"),
        size=(8.6, 4.2),
    )


EXPERIMENT = Experiment(
    order=107,
    title="Compiled code",
    question="What does torch.compile save of what is kept, and of the peak?",
    rank_runs=rank_runs,
    analyse=analyse,
    gpu_alone="Inductor's code for a GPU is compiled under the CUDA dry run; use --device cuda",
)
