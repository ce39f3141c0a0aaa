"""The two kinds of figures that experiments show: lines along one variable, and bars of parts."""

import functools
from typing import Any

import pandas as pd

from harness.analysis.frame import categories
from harness.plots.series import series
from harness.plots.stacked import stacked
from harness.schema.findings import Figure

Inches = tuple[float, float]


def lines(
    name: str,
    caption: str,
    data: pd.DataFrame,
    *,
    size: Inches = (8.6, 4.2),
    heading: str = "",
    story: bool = False,
    **options: Any,
) -> Figure:
    """Return a figure of lines, in panels if ``data`` has a column ``panel``.

    A figure with a ``heading`` belongs to the story. ``options`` are as ``series`` takes them.
    """
    draw = functools.partial(series, panel="panel" if "panel" in data else None, **options)
    return Figure(
        name=name,
        caption=caption,
        data=data,
        draw=draw,
        size=size,
        story=story or bool(heading),
        heading=heading,
    )


def bars(
    name: str,
    caption: str,
    data: pd.DataFrame,
    *,
    size: Inches,
    story: bool = False,
    panel: str = "panel",
    **options: Any,
) -> Figure:
    """Return a figure of bars, a part for each category; ``options`` are as ``stacked`` takes."""
    draw = functools.partial(stacked, panel=panel, **options)
    return Figure(name=name, caption=caption, data=data, draw=draw, size=size, story=story)


def composition(
    caption: str, cells: pd.DataFrame, *, name: str = "composition", **options: Any
) -> Figure | None:
    """Return what is alive at the peak of each of ``cells``, a bar a cell; as ``bars``."""
    if cells.empty:
        return None
    return bars(name, caption, categories(cells).reset_index(drop=True), **options)
