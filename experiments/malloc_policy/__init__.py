"""The process against its tensors: the same steps under pinned and under system malloc.

What a step's tensors need is known to the byte. What the process takes depends on the C
allocator, which keeps freed blocks and changes its own threshold as it goes. Pinned, every
block of 64 KiB and more is a mapping of its own that goes back when it is freed.
"""

import functools
from collections.abc import Iterable

import pandas as pd

from harness.analysis.decisions import in_most
from harness.analysis.rss_agreement import BIG_RISE_BYTES
from harness.plots.series import series
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Claim, Figure, Section, Table
from harness.schema.units import format_bytes
from harness.schema.workload import Grid, Workload

from . import rises as malloc_effect
from .rises import CLOSE_PERCENT, Agreement

POLICIES = ("pinned", "system")
NAMES = {"pinned": "pinned malloc", "system": "the system's malloc"}


def cells(size: Size) -> Iterable[Workload]:
    """Return the grid under both policies; seeds are processes of their own."""
    depths, batches, processes = {
        Size.QUICK: ((4,), (512, 2048), 2),
        Size.DEFAULT: ((4, 16, 48), (512, 2048, 4096), 3),
        Size.FULL: ((4, 8, 16, 32, 64), (128, 512, 2048, 4096, 8192), 4),
    }[size]
    axes = {
        "malloc": POLICIES,
        "depth": depths,
        "batch": batches,
        "seed": tuple(range(processes)),
    }
    return Grid(base=Workload(width=64, in_features=64), axes=axes)


def analyse(evidence: Evidence) -> Section:
    """Set the RSS rise next to the trace's, policy by policy."""
    table = malloc_effect.next_to_trace(evidence.frame)
    return Section(
        claims=tuple(_verdicts(table)),
        text=_text(table),
        tables=(
            Table(
                name="rises",
                caption="RSS rise next to the trace's; spreads over the repeats of a process "
                "and over processes, in percent of the trace's rise",
                frame=table,
            ),
        ),
        figures=_figures(table),
    )


def _parts(table: pd.DataFrame, *, big: bool) -> list[Agreement]:
    result = [malloc_effect.agreement(table, name, big=big) for name in POLICIES]
    return [part for part in result if part is not None]


def _verdicts(table: pd.DataFrame) -> list[Claim]:
    """Judge each policy by its large steps, or by the small ones where no step is large."""
    parts = _parts(table, big=True) or _parts(table, big=False)
    pinned = [part for part in parts if part.malloc == "pinned"]
    return [*map(_right, parts), *map(_repeatable, pinned)]


def _right(part: Agreement) -> Claim:
    decision = in_most(part.close, part.cells)
    return Claim(
        sentence=f"With {NAMES[part.malloc]}, a step's RSS rise is what its tensors need (within "
        f"{CLOSE_PERCENT:g}% in most cells).",
        headline=f"RSS rise is what tensors need: {NAMES[part.malloc]}",
        verdict=decision.verdict,
        open_reason=decision.reason("cells"),
        measured=f"Within {CLOSE_PERCENT:g}% of the trace in {part.close} of {part.cells} cells; "
        f"the difference is {part.median_percent:.3g}% (median) and {part.worst_percent:+.3g}% "
        f"at worst.{decision.remark('cells')}",
        number=f"{part.close} of {part.cells} within {CLOSE_PERCENT:g}%; worst "
        f"{part.worst_percent:+.3g}%",
    )


def _repeatable(part: Agreement) -> Claim:
    decision = in_most(part.repeatable, part.cells)
    return Claim(
        sentence=f"With {NAMES[part.malloc]}, another process measures the same RSS rise (within "
        f"{CLOSE_PERCENT:g}% in most cells).",
        headline=f"RSS rise repeats in another process: {NAMES[part.malloc]}",
        verdict=decision.verdict,
        open_reason=decision.reason("cells"),
        measured=f"The processes lie within {CLOSE_PERCENT:g}% of each other in {part.repeatable} "
        f"of {part.cells} cells. Median spread, as a share of what the tensors need: "
        f"{part.over_repeats_percent:.3g}% over the repeats in a process, "
        f"{part.over_processes_percent:.3g}% over processes.{decision.remark('cells')}",
        number=f"{part.over_processes_percent:.3g}% over processes",
    )


def _text(table: pd.DataFrame) -> tuple[str, ...]:
    repeatable = (
        "A number can repeat and still be wrong. With the system's malloc, memory that the "
        "warm-up step freed stays in the heap and is used again, so a step may seem to need "
        "nothing; or blocks that are freed in between keep the heap's top from shrinking, so it "
        "seems to need more."
    )
    small = _parts(table, big=False)
    if not (_parts(table, big=True) and small):
        return (repeatable,)
    words = "; ".join(
        f"{NAMES[part.malloc]} {part.median_percent:.3g}% (worst {part.worst_percent:+.3g}%)"
        for part in small
    )
    limits = (
        f"The verdicts are about steps that add more than {format_bytes(BIG_RISE_BYTES)}. The "
        f"difference is larger in smaller steps: median {words}. The kernel counts pages in "
        "batches per processor, and small blocks share pages."
    )
    return repeatable, limits


def _figures(table: pd.DataFrame) -> tuple[Figure, ...]:
    rise = table["trace_rise_bytes"]
    data = pd.DataFrame(
        {
            "panel": "Depth " + table["depth"].astype("string"),
            "malloc": table["malloc"].astype("string"),
            "batch": table["batch"],
            "times_needed": table["rss_rise_bytes"] / rise,
            "low": table["low_bytes"] / rise,
            "high": table["high_bytes"] / rise,
            "trace_rise_bytes": rise,
        }
    )
    depths = sorted(table["depth"].unique())
    chosen = {depths[0], depths[len(depths) // 2], depths[-1]}
    data = data[table["depth"].isin(chosen)].reset_index(drop=True)
    return (
        Figure(
            name="times-needed",
            caption="What a step adds to the process, over what its tensors need (dashed: equal), "
            "by batch; bars reach from the lowest to the highest of several processes. Pinned, the "
            "process follows its tensors once they are large; with the system's it does not.",
            data=data,
            draw=functools.partial(
                series,
                x="batch",
                y="times_needed",
                line="malloc",
                panel="panel",
                label="RSS rise over the tensors' rise",
                scale="ratio",
                ticks=(128, 512, 2048, 8192),
                joined=False,
                marked=(1.0, "equal"),
            ),
            size=(8.6, 3.6),
        ),
    )


EXPERIMENT = Experiment(
    order=100,
    title="The process against its tensors",
    question="How far is a process's resident memory from what its tensors need, and does it "
    "depend on the C allocator's policy?",
    cells=cells,
    analyse=analyse,
    repeats=3,
    cpu_alone="the C library's allocator holds no tensor of a GPU",
)
