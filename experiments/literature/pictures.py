"""The two kinds of pictures of a claim: lines along one variable, and bars of live bytes."""

from collections.abc import Sequence
from functools import partial

import pandas as pd

from harness.plots.series import Scale, series
from harness.plots.stacked import stacked
from harness.schema.findings import Figure

WIDE, HIGH, MEDIUM, LOW = 8.6, 4.2, 3.6, 3.0
"""Inches."""


def lines(
    name: str,
    caption: str,
    data: pd.DataFrame,
    *,
    x: str,
    y: str,
    line: str,
    label: str,
    x_label: str = "",
    scale: Scale = "bytes",
    marked: tuple[float, str] | None = None,
    joined: bool = True,
    ticks: Sequence[int] | None = None,
    doublings: bool = True,
    x_bytes: bool = False,
    shared: bool = True,
    story: bool = True,
) -> Figure:
    """Return the figure of ``y`` against ``x``; a column ``panel`` of ``data`` names panels."""
    shown = [column for column in ("panel", line, x, y, "fit") if column in data]
    return Figure(
        name=name,
        caption=caption,
        data=data[shown],
        draw=partial(
            series,
            x=x,
            y=y,
            line=line,
            panel="panel" if "panel" in data else None,
            line_label="",
            label=label,
            x_label=x_label,
            scale=scale,
            marked=marked,
            joined=joined,
            ticks=ticks,
            x_doublings=doublings,
            x_bytes=x_bytes,
            shared=shared,
        ),
        size=(WIDE, HIGH if story else MEDIUM),
        story=story,
    )


def bars(
    name: str,
    caption: str,
    rows: "pd.DataFrame | list[dict[str, object]]",
    *,
    bar: str,
    label: str = "live bytes at the peak",
    shared: bool = False,
    story: bool = False,
) -> Figure:
    """Return the figure of a bar a row, a part for each category, in panels by the column."""
    return Figure(
        name=name,
        caption=caption,
        data=pd.DataFrame(rows),
        draw=partial(stacked, panel="panel", bar=bar, label=label, shared=shared),
        size=(WIDE, LOW),
        story=story,
    )
