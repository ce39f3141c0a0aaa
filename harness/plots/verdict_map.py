"""Draws the cells of a grid in which a claim holds, and those in which it fails."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from harness.plots.theme import INK, QUIET, is_narrow, panels
from harness.schema.findings import Figure, as_written

_LOOKS = {"holds": (INK, INK), "fails": ("none", INK), "unknown": ("none", QUIET)}
"""Fill and edge of a marker, so that the verdicts can be distinguished without colours."""
_MOST_PANELS = 3
_INCHES_A_ROW = 0.24


def verdict_map(name: str, cells: pd.DataFrame) -> Figure | None:
    """Return a figure with a marker for each cell; None if the cells have only one axis.

    The last axis of numbers is drawn from left to right. If the first of three or more axes has few
    values, each value gets its own panel. The other axes are the rows.
    """
    axes = [str(one) for one in cells.columns if one != "holds" and cells[one].nunique() > 1]
    if len(axes) < 2:
        return None
    axes.sort(key=lambda one: pd.api.types.is_numeric_dtype(cells[one]))
    words = cells["holds"].map({True: "holds", False: "fails"}).fillna("unknown")
    data = cells[axes].assign(verdict=words.astype("string"))
    panel = axes[0] if len(axes) > 2 and data[axes[0]].nunique() <= _MOST_PANELS else ""
    rows = len(data[[one for one in axes[:-1] if one != panel]].drop_duplicates())
    counts = ", ".join(f"{int((words == one).sum())} {one}" for one in _LOOKS if one in set(words))
    return Figure(
        name=name,
        caption=f"The verdict for each cell: {counts}.",
        data=data,
        draw=lambda canvas, frame: _draw(canvas, frame, panel),
        size=(8.6, 1.2 + _INCHES_A_ROW * rows),
    )


def _draw(canvas: Canvas, data: pd.DataFrame, panel: str) -> None:
    groups = [("", data)] if not panel else [(str(key), one) for key, one in data.groupby(panel)]
    axes = [str(one) for one in data.columns if one not in ("verdict", panel)]
    height = 0.8 + _INCHES_A_ROW * len(data[axes[:-1]].drop_duplicates())
    for place, (title, own) in zip(panels(canvas, len(groups), height=height), groups, strict=True):
        _draw_panel(place, own, axes, narrow=is_narrow(canvas))
        place.set_title(as_written(title))
    handles = [
        Line2D([], [], ls="", marker="s", mfc=fill, mec=edge, label=verdict)
        for verdict, (fill, edge) in _LOOKS.items()
        if (data["verdict"] == verdict).any()
    ]
    canvas.legend(handles=handles, loc="outside upper right", ncols=len(handles))


def _draw_panel(place: Axes, data: pd.DataFrame, axes: list[str], *, narrow: bool) -> None:
    *others, last = axes
    columns = sorted(data[last].unique())
    rows = sorted(set(data[others].itertuples(index=False, name=None)))
    for verdict, (fill, edge) in _LOOKS.items():
        own = data[data["verdict"] == verdict]
        keys = own[others].itertuples(index=False, name=None)
        y = [rows.index(key) for key in keys]
        x = [columns.index(value) for value in own[last]]
        size = 5 if verdict == "unknown" else 9
        place.plot(x, y, ls="", marker="s", ms=size, mfc=fill, mec=edge)
    place.set_xticks(range(len(columns)), [_text(one) for one in columns])
    if narrow:
        place.tick_params(axis="x", labelrotation=45)
    place.set_yticks(range(len(rows)), [", ".join(map(_text, row)) for row in rows])
    place.set_xlabel(last)
    place.set_ylabel(", ".join(others))
    place.set_xlim(-0.5, len(columns) - 0.5)
    place.set_ylim(-0.5, len(rows) - 0.5)
    place.grid(visible=False)
    place.tick_params(length=0)
    place.spines[:].set_visible(False)


def _text(value: object) -> str:
    return as_written(value) if isinstance(value, str) else f"{value:,}"
