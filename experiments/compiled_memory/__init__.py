"""Compiled code: what ``torch.compile`` saves of what is kept, and of the peak.

The same MLP is trained as it is written and through ``torch.compile`` (Inductor), on a pretended
GPU with PyTorch's own allocator: once as in the note, once with what stands between the matmuls of
today's networks (GELU, layer normalization, dropout). The peaks are those of a later step: what the
autotuner allocates in the first one is not in them.
"""

import functools
from collections.abc import Iterable

import pandas as pd

from harness.analysis import AnalysisError
from harness.analysis.frame import lines_if_there
from harness.plots.series import series
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Claim, Figure, Section, Table, Verdict
from harness.schema.rank_run import ALONE, RANK_RUNS, RankJob, RankRun, from_json
from harness.schema.record import Outcome
from harness.schema.units import format_bytes
from harness.schema.workload import Workload

NETWORKS = {
    "ReLU": Workload(width=512, activation="relu"),
    "GELU, norm, dropout": Workload(width=512, activation="gelu", norm="layer", dropout=0.1),
}
"""The note's network, and one with more between its matmuls."""

GRID = {
    Size.QUICK: ((2, 4), (1024,)),
    Size.DEFAULT: ((2, 4, 8), (256, 1024, 4096)),
    Size.FULL: ((2, 4, 8, 16, 32), (256, 1024, 4096, 16384)),
}
"""Depths and batches."""

COLUMNS = {"kept": "what the forward pass keeps", "peak": "the allocated peak"}


def rank_runs(size: Size) -> Iterable[RankJob]:
    """Return each network at each depth and batch, as it is written and compiled."""
    depths, batches = GRID[size]
    for network in NETWORKS.values():
        for depth in depths:
            for batch in batches:
                workload = network.replace(depth=depth, batch=batch)
                for strategy in ALONE:
                    yield RankJob(workload=workload, strategy=strategy, world_size=1)


def analyse(evidence: Evidence) -> Section:
    """Compare compiled with eager, cell by cell."""
    runs = lines_if_there(evidence.folder / RANK_RUNS, from_json)
    last = {run.cell_id: run for run in runs}
    table = as_frame(last.values())
    if table.empty:
        why = {str(run.evidence.get("message", run.outcome)) for run in last.values()}
        raise AnalysisError("no pair of runs ended well" + "".join(f": {one}" for one in why))
    return Section(
        claims=tuple(
            claim
            for network, cells in table.groupby("network", sort=False)
            for claim in judge(str(network), cells)
        ),
        text=(_method(table, last.values()),),
        tables=(Table(name="compiled", caption="Eager and compiled", frame=table),),
        figures=(_figure(table),),
    )


def as_frame(runs: Iterable[RankRun]) -> pd.DataFrame:
    """Return a row for each network, depth and batch that ended well both ways."""
    rows: dict[tuple[str, int, int], dict[str, int]] = {}
    for run in runs:
        if run.outcome is Outcome.OK and run.memory is not None:
            key = (_name(run.workload), run.workload.depth, run.workload.batch)
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


def _name(workload: Workload) -> str:
    same = (name for name, one in NETWORKS.items() if one.activation == workload.activation)
    return next(same, workload.activation)


def judge(network: str, cells: pd.DataFrame) -> Iterable[Claim]:
    """Judge the sentence that compiling saves memory, of what is kept and of the peak."""
    for what, words in COLUMNS.items():
        ratio = cells[f"{what}_ratio"]
        saves = ratio < 1
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
            measured=f"Less in {int(saves.sum())} of {len(cells)} cells; at depth"
            f" {largest['depth']} and batch {largest['batch']:,}: {compiled}, eager {eager}.",
            number=number,
        )


def _method(table: pd.DataFrame, runs: Iterable[RankRun]) -> str:
    seen = {f"torch {r.environment.get('torch')} on a {r.environment.get('device')}" for r in runs}
    return (
        f"{len(table)} pairs of an MLP of width 512 with SGD, three steps, fullgraph=True"
        f" ({', '.join(sorted(seen))}). Kept: requested by the last forward pass and alive at its"
        " end. A matmul needs its input in the backward pass, compiled or not: with ReLU that input"
        " is all that is kept, so there is nothing to save. What stands between two matmuls is"
        " computed again in the backward pass where that takes no memory."
    )


def _figure(table: pd.DataFrame) -> Figure:
    largest = table[table["batch"] == table["batch"].max()]
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
        caption=f"Memory against depth at batch {table['batch'].max():,}: points are compiled,"
        " lines are eager. Kept by the forward pass, and the allocated peak of a step.",
        data=data[["panel", "line", "depth", "bytes", "fit"]],
        draw=functools.partial(
            series,
            x="depth",
            y="bytes",
            line="line",
            panel="panel",
            line_label="",
            label="bytes",
            x_label="depth",
            scale="doubling bytes",
        ),
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
