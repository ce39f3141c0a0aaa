"""The process against its tensors: the same steps under pinned and under system malloc.

What a step's tensors need is known to the byte. What the process takes depends on the C
allocator, which keeps freed blocks and changes its own threshold as it goes. Pinned, every
block of 64 KiB and more is a mapping of its own that goes back when it is freed.
"""

import functools
from collections.abc import Iterable

import pandas as pd

from harness.analysis.rss_agreement import BIG_RISE_BYTES
from harness.reporting.plots.series import Marked, series
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Figure, Ruling, Section, Table, Verdict
from harness.schema.units import format_bytes
from harness.schema.workload import Grid, Workload

from . import rises as malloc_effect
from .rises import CLOSE_PERCENT, Agreement

POLICIES = ("pinned", "system")


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
    """Set the resident rise beside the trace's, policy by policy."""
    table = malloc_effect.beside_trace(evidence.frame)
    return Section(
        verdicts=(*_verdicts(table), *_repeatable(table)),
        text=_text(table),
        tables=(
            Table(
                name="rises",
                caption="Resident rise beside the trace's; spreads over the repeats of a process "
                "and over processes, in per cent of the trace's rise",
                frame=table,
            ),
        ),
        figures=_figures(table),
    )


def _parts(table: pd.DataFrame, *, big: bool) -> list[Agreement]:
    found = [malloc_effect.agreement(table, name, big=big) for name in POLICIES]
    return [part for part in found if part is not None]


def _verdicts(table: pd.DataFrame) -> list[Verdict]:
    """Rule on each policy by the cells that are large enough to judge, else by all others."""
    parts = _parts(table, big=True) or _parts(table, big=False)
    sentences = {
        "pinned": "With malloc pinned, what a step adds to the process is what its tensors need.",
        "system": "With the system's malloc, what a step adds to the process is what its tensors "
        "need.",
    }
    return [
        Verdict(
            sentence=sentences[part.malloc],
            ruling=_ruling(part),
            measured=f"Within {CLOSE_PERCENT:g} % of the trace in {part.close} of {part.cells} "
            f"cells; off by {part.median_percent:.3g} % (median), by {part.worst_percent:+.3g} % "
            "at worst.",
            number=f"{part.close} of {part.cells} within {CLOSE_PERCENT:g} %; worst "
            f"{part.worst_percent:+.3g} %",
        )
        for part in parts
    ]


def _ruling(part: Agreement) -> Ruling:
    if part.close == part.cells:
        return Ruling.SUPPORTED
    return Ruling.LIMITED if part.median_percent <= CLOSE_PERCENT else Ruling.REFUTED


def _repeatable(table: pd.DataFrame) -> list[Verdict]:
    """Rule on whether a resident rise can be had again, in one process and in another."""
    parts = _parts(table, big=True) or _parts(table, big=False)
    words = "; ".join(
        f"{part.malloc}: {part.over_repeats_percent:.3g} % over the repeats of a process, "
        f"{part.over_processes_percent:.3g} % over processes"
        for part in parts
    )
    worst = max(max(part.over_repeats_percent, part.over_processes_percent) for part in parts)
    return [
        Verdict(
            sentence="A process's resident rise can be measured again with the same result.",
            ruling=Ruling.SUPPORTED if worst <= CLOSE_PERCENT else Ruling.LIMITED,
            measured=f"Median spread, in per cent of what the tensors need: {words}. What the "
            "tensors need is the same to the byte every time.",
            number=words,
        )
    ]


def _text(table: pd.DataFrame) -> tuple[str, ...]:
    repeatable = (
        "Repeatable is not right: a policy can give the same wrong number every time. With the "
        "system's malloc, memory that the warm-up step freed is kept in the heap and used again, "
        "so that a step may seem to need nothing; or blocks freed in between hold the heap's top "
        "up, so that it seems to need more."
    )
    text = [repeatable]
    small = _parts(table, big=False)
    if _parts(table, big=True) and small:
        words = "; ".join(
            f"{part.malloc} {part.median_percent:.3g} % (worst {part.worst_percent:+.3g} %)"
            for part in small
        )
        text.append(
            f"The verdicts are on steps that add more than {format_bytes(BIG_RISE_BYTES)}. Smaller "
            f"ones are off by more under either policy: median {words}. The kernel counts pages "
            "in batches per processor, and small blocks share pages."
        )
    return tuple(text)


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
                marked=Marked(value=1.0, text="equal"),
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
