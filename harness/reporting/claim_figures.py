"""Tables and figures that several experiments show, made from growths and frames."""

import functools
from collections.abc import Mapping

import pandas as pd

from harness.analysis import AnalysisError, summaries
from harness.analysis.frame import categories, read_events
from harness.analysis.proportionality import Growth
from harness.plots.series import memory_panels
from harness.plots.stacked import stacked
from harness.plots.step_timeline import live_by_category, timeline_figure
from harness.plots.theme import WIDE
from harness.schema.experiment import Evidence
from harness.schema.findings import Figure, Table

_GROWTH_TABLES = (
    ("doublings", "What one doubling multiplies each quantity by, and from where it is 2"),
    ("exponents", "Exponents in depth and batch (95% intervals, HC3)"),
    ("models", "Three models of each quantity, and what the product adds to the sum (F test)"),
    ("coefficients", "Coefficients in bytes per unit of their term (95% intervals, HC3)"),
)
"""Names of functions of ``summaries``, with captions."""


def growth_tables(growths: Mapping[str, Growth]) -> list[Table]:
    """Return doublings, exponents, models and coefficients of all ``growths``, by their labels."""
    return [
        Table(name=name, caption=caption, frame=getattr(summaries, name)(growths))
        for name, caption in _GROWTH_TABLES
    ]


def composition(
    cells: pd.DataFrame,
    *,
    panel: str,
    bar: str,
    caption: str,
    size: tuple[float, float],
    name: str = "composition",
    bar_label: str = "",
    shared: bool = False,
    shares: bool = False,
) -> list[Figure]:
    """Return what is alive at the peak of each of ``cells``, a bar a cell."""
    if cells.empty:
        return []
    label = "share of the peak, its bytes next to it" if shares else "live bytes at the peak"
    draw = functools.partial(
        stacked,
        panel=panel,
        bar=bar,
        bar_label=bar_label,
        label=label,
        shared=shared,
        shares=shares,
    )
    data = categories(cells).reset_index(drop=True)
    return [Figure(name=name, caption=caption, data=data, draw=draw, size=size)]


def growth_figure(result: Growth, label: str) -> Figure:
    """Return one quantity against depth and against batch, with the model that fits it best."""
    cells = result.sample
    sizes = {"measured": cells.values, "fit": result.best()}
    data = pd.DataFrame({"depth": cells.depth, "batch": cells.batch, **sizes})
    model = "the exact formula" if result.whole else "the fitted model"
    axes = (
        ("Against depth, a line per batch", "depth", "batch", "depth (hidden layers)"),
        ("Against batch, a line per depth", "batch", "depth", "batch (examples)"),
    )
    panels = [
        data.assign(panel=panel, at=data[along], line=data[line]) for panel, along, line, _ in axes
    ]
    long = pd.concat(panels, ignore_index=True).sort_values("panel", ascending=False)
    return Figure(
        name=f"{label.lower().replace(' ', '-')}-growth",
        caption=f"{label[0].upper()}{label[1:]} against the depth, a line per batch, and against "
        f"the batch, a line per depth. Points are measured, lines are {model}. Lines that start "
        "flat carry a part that does not grow.",
        data=long[["panel", "at", "line", "measured", "fit"]].reset_index(drop=True),
        draw=memory_panels(
            "at",
            "line",
            y="measured",
            label=label,
            x_label={panel: words for panel, _, _, words in axes},
        ),
        size=WIDE,
    )


def timelines(evidence: Evidence) -> tuple[list[Figure], list[str]]:
    """Return the timelines of the training cells whose events were kept, and what was wrong.

    An events file that does not hold what it should costs its figure, not the section.
    """
    frame = evidence.frame
    known = frame[(frame["mode"] == "train") & (frame["outcome"] == "ok")]
    figures, faults = [], []
    for name, depth, batch in known[["workload_id", "depth", "batch"]].itertuples(index=False):
        path = evidence.folder / "events" / f"{name}.csv"
        if not path.is_file():
            continue
        try:
            data = live_by_category(read_events(path))
        except AnalysisError as error:
            faults.append(f"No timeline of depth {depth}, batch {batch}: {error}.")
            continue
        caption = (
            f"Live bytes through one training step (depth {depth}, batch {batch}), event by event. "
            "The forward pass piles up activations; the backward pass frees them while gradients "
            "appear; the update needs no more."
        )
        figures.append(timeline_figure(data, name=f"timeline-{depth}-{batch}", caption=caption))
    return figures, faults
