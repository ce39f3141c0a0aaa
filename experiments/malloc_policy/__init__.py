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
    """Return the grid under both policies; each seed has fork servers of its own."""
    depths, batches, servers = {
        Size.QUICK: ((4,), (512, 2048), 2),
        Size.DEFAULT: ((16, 24, 32, 48, 64), (512, 3072, 4096), 3),  # 9 add more than 16 MB
        Size.FULL: ((4, 8, 16, 32, 64), (128, 512, 2048, 4096, 8192), 4),
    }[size]
    axes = {
        "seed": tuple(range(servers)),
        "malloc": POLICIES,
        "depth": depths,
        "batch": batches,
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
                "and over fork servers, in percent of the trace's rise",
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
    return [*map(_right, parts), *map(_repeatable, parts)]


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
        f"at worst.{decision.words('cells')}",
        number=f"{part.close} of {part.cells} within {CLOSE_PERCENT:g}%; worst "
        f"{part.worst_percent:+.3g}%",
    )


def _repeatable(part: Agreement) -> Claim:
    decision = in_most(part.repeatable, part.replicated)
    return Claim(
        sentence=f"With {NAMES[part.malloc]}, a process of another fork server measures the same "
        f"RSS rise (within {CLOSE_PERCENT:g}% in most cells).",
        headline=f"RSS rise repeats in another process: {NAMES[part.malloc]}",
        verdict=decision.verdict,
        open_reason=decision.reason("cells"),
        measured=f"The fork servers lie within {CLOSE_PERCENT:g}% of each other in "
        f"{part.repeatable} of {part.replicated} cells that more than one measured. Median spread, "
        "as a share of what the tensors need: "
        f"{part.over_repeats_percent:.3g}% over the repeats in a process, "
        f"{part.over_servers_percent:.3g}% over fork servers.{decision.words('cells')}",
        number=f"{part.over_servers_percent:.3g}% over fork servers",
    )


def _text(table: pd.DataFrame) -> tuple[str, ...]:
    repeatable = (
        "Free pages of the heap go back to the kernel before each reading, so no step hides in "
        "them. What a step frees stays resident, unless the block had a mapping of its own. With "
        "the system's malloc, the size from which blocks have one depends on what the process "
        "freed before, so fork servers differ."
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
        f"difference is larger in smaller steps: median {words}. A block takes whole pages, and "
        "the kernel counts pages in batches."
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
            "by batch; bars reach from the lowest to the highest of several fork servers. Pinned, "
            "the process follows its tensors.",
            data=data,
            draw=functools.partial(
                series,
                x="batch",
                y="times_needed",
                line="malloc",
                panel="panel",
                label="RSS rise over the tensors' rise",
                scale="ratio",
                ticks=(128, 512, 2048, 4096, 8192),
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
    servers_by_seed=True,
    cpu_alone="the C library's allocator holds no tensor of a GPU",
)
