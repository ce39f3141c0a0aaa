"""The process against its tensors: the same steps under pinned and under system malloc.

What a step's tensors need is known to the byte. What the process takes depends on the C
allocator, which keeps freed blocks and changes its own threshold as it goes. Pinned, every
block of 64 KiB and more is a mapping of its own that goes back when it is freed.
"""

from collections.abc import Iterable

import pandas as pd

from harness.analysis.decisions import ROUGHLY, is_roughly
from harness.analysis.judge import decided, judge_cells
from harness.analysis.rss_agreement import BIG_RISE_BYTES
from harness.analysis.stated_claims import Stated, stated
from harness.reporting.claim_figures import lines
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Claim, Figure, Section, Table, Verdict
from harness.schema.units import format_bytes
from harness.schema.workload import Grid, Workload

from . import rises as malloc_effect

POLICIES = ("pinned", "system")
NAMES = {"pinned": "pinned malloc", "system": "the system's malloc"}


def cells(size: Size) -> Iterable[Workload]:
    """Return the grid under both policies; each seed has fork servers of its own."""
    depths, batches, servers = {
        Size.QUICK: ((4,), (512, 2048), 2),
        Size.DEFAULT: ((16, 32), (2048, 4096, 8192), 2),
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
                caption="RSS rise and rise of the trace; spreads over the repeats of a process "
                "and over fork servers, in percent of the trace's rise",
                frame=table,
            ),
        ),
        figures=(_figure(table),),
    )


def _stated(claim: str, malloc: str) -> Stated:
    big = format_bytes(BIG_RISE_BYTES)
    return stated(__file__, claim, malloc=NAMES[malloc], roughly=f"{ROUGHLY:.0%}", big=big)


def _verdicts(table: pd.DataFrame) -> list[Claim]:
    """Judge each policy by its large steps, or by the small ones where no step is large."""
    big = bool((table["trace_rise_bytes"] > BIG_RISE_BYTES).any())
    chosen = table[(table["trace_rise_bytes"] > BIG_RISE_BYTES) == big]
    parts = {name: chosen[chosen["malloc"] == name].reset_index(drop=True) for name in POLICIES}
    known = {name: part for name, part in parts.items() if len(part)}
    claims = [_right(name, part) for name, part in known.items()]
    return claims + [_repeatable(name, part) for name, part in known.items() if name == "pinned"]


def _right(malloc: str, cells: pd.DataFrame) -> Claim:
    ends = [cells[name] / cells["trace_rise_bytes"] for name in ("low_bytes", "high_bytes")]
    known = [
        is_roughly(low=low, high=high).verdict if count > 1 else Verdict.OPEN
        for low, high, count in zip(*ends, cells["fork_servers"], strict=True)
    ]
    off = cells["difference_percent"]
    close, worst = (
        int((off.abs() <= 100 * ROUGHLY).sum()),
        float(off.iloc[int(off.abs().to_numpy().argmax())]),
    )
    return decided(
        judge_cells(cells, _held(known), ["depth", "batch"]),
        **_stated("right", malloc),
        measured="The median over fork servers differs from the trace by "
        f"{off.abs().median():.3g}% (median over cells) and {worst:+.3g}% at worst.",
        number=f"{close} of {len(cells)} cells within {ROUGHLY:.0%}; worst {worst:+.3g}%",
    )


def _held(verdicts: Iterable[Verdict]) -> list[bool | None]:
    known = {Verdict.SUPPORTED: True, Verdict.REFUTED: False}
    return [known.get(one) for one in verdicts]


def _repeatable(malloc: str, cells: pd.DataFrame) -> Claim:
    spread = cells["over_servers_percent"]
    near = (spread <= 100 * ROUGHLY).astype("boolean").where(cells["fork_servers"] > 1)
    return decided(
        judge_cells(cells, near, ["depth", "batch"]),
        **_stated("repeatable", malloc),
        measured="As a share of what the tensors need, the median spread is "
        f"{cells['over_repeats_percent'].median():.3g}% over the repeats in a process and "
        f"{spread.median():.3g}% over fork servers ({spread.max():.3g}% at most).",
        number=f"{spread.max():.3g}% over fork servers at most",
    )


def _text(table: pd.DataFrame) -> tuple[str, ...]:
    repeatable = (
        "Free pages of the heap return to the kernel before each reading, so no step can use "
        "them. A block that a step frees stays resident, unless it had a mapping of its own. With "
        "the system's malloc, earlier frees decide from which size on blocks get a mapping, so "
        "fork servers differ."
    )
    small = table[table["trace_rise_bytes"] <= BIG_RISE_BYTES]
    if len(small) in (0, len(table)):
        return (repeatable,)
    off = small["difference_percent"].abs().groupby(small["malloc"])
    words = "; ".join(
        f"{NAMES[str(name)]} {part.median():.3g}% (worst {part.max():.3g}%)" for name, part in off
    )
    limits = (
        f"The verdicts are about steps that add more than {format_bytes(BIG_RISE_BYTES)}. For "
        f"smaller steps the median difference is larger: {words}. The kernel counts pages in "
        "batches per processor, and small blocks share pages."
    )
    return repeatable, limits


def _figure(table: pd.DataFrame) -> Figure:
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
    chosen = {depths[0], depths[-1]}
    data = data[table["depth"].isin(chosen)].reset_index(drop=True)
    return lines(
        "times-needed",
        "RSS rise of a step divided by what its tensors need, by batch. The dashed line is 1. Bars "
        "reach from the lowest to the highest of several fork servers. With the pinned policy "
        "large steps lie on the line; with the system's policy they do not.",
        data,
        x="batch",
        y="times_needed",
        line="malloc",
        label="RSS rise over the tensors' rise",
        scale="ratio",
        joined=False,
        y_from=-0.1,
        marked=(1.0, "equal"),
        size=(8.6, 3.6),
    )


EXPERIMENT = Experiment(
    order=100,
    title="The process against its tensors",
    question="How far does a process's RSS rise differ from what its tensors need, and does this "
    "depend on the C allocator's policy?",
    cells=cells,
    analyse=analyse,
    repeats=3,
    servers_by_seed=True,
    cpu_alone="the C library's allocator holds no tensor of a GPU",
)
