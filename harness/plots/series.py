"""Draws series of measured values against one variable, with fits, ranges and limits.

The data have one row per point, and a column with the name of the series. If the names are
integers, the colours go from dark to light; otherwise each series has a distinct colour and marker.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from harness.plots.category_colours import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION
from harness.plots.theme import (
    QUIET,
    End,
    byte_ticks,
    bytes_axis,
    bytes_text,
    counts_axis,
    depth_colours,
    is_narrow,
    label_ends,
    ordered_colours,
    panels,
    remark,
)

SHAPES = ("o", "s", "^", "D", "v", "P", "X")
DISTINCT = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, GREY)

_AXES = {"batch": "batch (examples)", "depth": "depth (hidden layers)", "width": "width (units)"}

MANY = 20
"""Maximum number of points for which a series is drawn with large markers."""

Scale = Literal["bytes", "doubling bytes", "ratio"]


def series(
    canvas: Canvas,
    data: pd.DataFrame,
    *,
    x: str,
    y: str,
    line: str,
    panel: str | None = None,
    line_label: str | None = None,
    label: str,
    x_label: str | Mapping[str, str] = "",
    scale: Scale = "bytes",
    joined: bool = True,
    hollow: bool = False,
    own_styles: bool = False,
    ticks: Sequence[int] | None = None,
    x_doublings: bool = True,
    x_bytes: bool = False,
    y_from: float | None = 0.0,
    marked: tuple[float, str] | None = None,
    band: float | None = None,
    limit: str = "limit",
    shared: bool = True,
) -> None:
    """Draw ``y`` against ``x``, with one labelled curve for each value in column ``line``.

    ``data`` may also have columns ``fit``, ``limit``, ``low`` and ``high``. A column ``fit`` is
    drawn as a line, and the points are then not connected. Rows without a value of ``y`` are only
    used for the fit. A column ``limit`` is drawn as a dashed line, labelled with the argument
    ``limit``. Columns ``low`` and ``high`` are drawn as a range at each point. If ``scale`` is
    ``ratio``, the y axis starts at ``y_from``; None means matplotlib's default. ``marked`` is a y
    value to mark with a line, and the label of the line. ``hollow`` draws points as rings of
    decreasing size, so that rings at the same place are visible. ``own_styles`` assigns the colours
    in each panel separately. ``band`` draws limits at ``-band`` and ``+band``.
    """
    titles = [None] if panel is None else [str(name) for name in data[panel].unique()]
    places = panels(canvas, len(titles), sharey=shared and len(titles) > 1)
    styles = _styles(data[line], line)
    for axes, title in zip(places, titles, strict=True):
        part = data if panel is None else data[data[panel].astype(str) == title]
        styles = _styles(part[line], line) if own_styles else styles
        rings: Iterator[float] = iter(np.linspace(11, 4, len(styles)) if hollow else ())
        ends = [
            _line(
                axes,
                part[part[line] == name],
                x,
                y,
                str(name),
                *style,
                joined=joined,
                ring=next(rings, None),
            )
            for name, style in styles.items()
            if bool((part[line] == name).any())
        ]
        at = sorted({int(value) for value in part.loc[part[y].notna(), x]})
        if x_doublings:
            is_small = is_narrow(canvas) or len(titles) > 2
            counts_axis(axes, _few(ticks or at, 6) if is_small else ticks or at)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        if x_bytes:
            axes.xaxis.set_major_formatter(lambda value, _: bytes_text(value))
        named_x = x_label if isinstance(x_label, str) else x_label[str(title)]
        axes.set_xlabel(named_x or _AXES.get(x, x.replace("_", " ")))
        if title is not None:
            axes.set_title(title)
        _values(axes, part if not shared else data, y, scale, y_from)
        _limit(axes, part, x, limit)
        if marked is not None:
            _mark(axes, *marked)
        if band is not None:
            _band(axes, part[y], band)
        if len(styles) > 1 and not hollow:
            named = line.replace("_", " ") if line_label is None else line_label
            label_ends(axes, [end for end in ends if end is not None], named)
    places[0].set_ylabel(label)
    if hollow:  # their ends lie among each other, so a legend names them
        rings_of = [axis for axis in places[0].get_lines() if axis.get_marker() == "o"]
        texts = [
            f"{line} {name}" if isinstance(name, int | np.integer) else str(name) for name in styles
        ]
        columns = 3 if is_narrow(canvas) else len(texts)
        canvas.legend(rings_of, texts, loc="outside lower center", ncols=columns)


def _few(values: Sequence[int], most: int) -> list[int]:
    """Return at most ``most`` of the values, including the last, as ticks of a logarithmic axis.

    >>> _few([1, 2, 4, 8, 16, 32, 64], 6), _few([1, 16, 128, 512, 1024], 6)
    ([1, 4, 16, 64], [1, 16, 128, 1024])
    """
    apart = -(-len(values) // most)
    kept = list(values[::-1][:1])
    least = math.log2(max(values[-1] / values[0], 2)) / (most + 1)
    for value in values[::-1][apart::apart]:
        if math.log2(kept[-1] / value) >= least:
            kept.append(value)
    return kept[::-1]


def _styles(names: "pd.Series[str]", line: str = "") -> dict[object, tuple[str, str]]:
    labels = list(dict.fromkeys(names))
    if all(isinstance(name, int | np.integer) for name in labels):
        labels = sorted(labels)
        ordered = ordered_colours(len(labels))
        colours = depth_colours([int(name) for name in labels]) if line == "depth" else ordered
        return dict(zip(labels, zip(colours, SHAPES * 9, strict=False), strict=True))
    return dict(zip(labels, zip(DISTINCT * 9, SHAPES * 9, strict=False), strict=False))


def _line(
    axes: Axes,
    part: pd.DataFrame,
    x: str,
    y: str,
    name: str,
    colour: str,
    shape: str,
    *,
    joined: bool,
    ring: float | None = None,
) -> End | None:
    """Draw one series, and return the position of the series's last point, for the label."""
    part = part.sort_values(x)
    at, value = (part[key].to_numpy(dtype=np.float64, na_value=np.nan) for key in (x, y))
    if "fit" in part:
        model = part["fit"].to_numpy(dtype=np.float64, na_value=np.nan)
        axes.plot(at, model, "-", color=colour)
        many = int(np.isfinite(value).sum()) > MANY
        axes.plot(at, value, shape, color=colour, markersize=2.5 if many else None)
    elif ring is not None:
        axes.plot(at, value, "o", color=colour, markersize=ring, markerfacecolor="none")
    else:
        axes.plot(at, value, f"{shape}-" if joined else shape, color=colour)
    if "low" in part:
        low, high = (part[key].to_numpy(dtype=np.float64) for key in ("low", "high"))
        axes.vlines(at, low, high, color=colour, linewidth=2.2, alpha=0.55)
    known = np.flatnonzero(np.isfinite(value))
    if not len(known):
        return None
    return End(x=float(at[known[-1]]), y=float(value[known[-1]]), text=name, colour=colour)


def _values(axes: Axes, data: pd.DataFrame, y: str, scale: Scale, y_from: float | None) -> None:
    columns = [name for name in (y, "high", "fit") if name in data]
    top = float(np.nanmax(data[columns].to_numpy(dtype=np.float64, na_value=np.nan)))
    if scale == "doubling bytes":
        low = float(data.loc[data[y] > 0, y].min())
        axes.set_ylim(low / 1.6, top * 1.6)
        bytes_axis(axes)
    elif scale == "bytes":
        byte_ticks(axes, top, which="y", count=4)
        axes.set_ylim(0, 1.12 * top)
    else:
        axes.set_ylim(
            bottom=y_from if y_from is not None else axes.get_ylim()[0], top=1.06 * top or 1
        )


def _limit(axes: Axes, part: pd.DataFrame, x: str, name: str) -> None:
    if "limit" not in part:
        return
    known = part.dropna(subset=["limit"]).drop_duplicates(x).sort_values(x)
    if not len(known):
        return
    at, value = (known[key].to_numpy(dtype=np.float64) for key in (x, "limit"))
    axes.plot(at, value, "--", color=QUIET)
    middle = len(at) // 2  # the measured lines are above it
    remark(axes, name, (at[middle], value[middle]), (5, -4), ha="left", va="top")


def _mark(axes: Axes, marked: float, name: str) -> None:
    axes.axhline(marked, color=QUIET, linewidth=1, linestyle="--")
    at_right, below = _free_corner(axes, marked, name)
    remark(
        axes,
        name,
        (0.99 if at_right else 0.01, marked),
        (0, -3 if below else 3),
        xycoords=("axes fraction", "data"),
        ha="right" if at_right else "left",
        va="top" if below else "bottom",
    )


def _band(axes: Axes, values: "pd.Series[float]", band: float) -> None:
    reach = 1.15 * max(float(values.abs().max()), band)
    axes.set_ylim(-reach, reach)
    for at in (-band, 0.0, band):
        style = "--" if at else "-"
        axes.axhline(at, color=QUIET, linewidth=1, linestyle=style, zorder=0)
    remark(axes, f"±{band:g}", (0.01, band), (0, 3), xycoords=("axes fraction", "data"))


def _free_corner(axes: Axes, marked: float, name: str) -> tuple[bool, bool]:
    """Return the corner in which a label covers the fewest points, as flags (right, below)."""
    canvas = axes.figure
    assert canvas is not None
    place = axes.get_position()
    inches = place.width * canvas.get_figwidth(), place.height * canvas.get_figheight()  # type: ignore[union-attr]
    wide, high = (0.07 * len(name) / inches[0], 0.2 / inches[1])
    to_axes = axes.transData + axes.transAxes.inverted()
    lines = [np.asarray(line.get_xydata()) for line in axes.get_lines()[:-1]]  # the last: the mark
    paths = (path for ranges in axes.collections for path in ranges.get_paths())
    lines += [np.asarray(path.vertices) for path in paths]
    height = float(to_axes.transform((axes.get_xlim()[0], marked))[1])
    points = np.vstack([_along(to_axes.transform(line)) for line in lines if len(line)])

    def in_the_way(corner: tuple[bool, bool]) -> int:
        at_right, below = corner
        left, low = (1 - wide if at_right else 0.0), (height - high if below else height)
        inside = (points >= (left, low)) & (points <= (left + wide, low + high))
        return int(inside.all(axis=1).sum()) + 1000 * (low < 0 or low + high > 1)

    corners = ((False, False), (True, False), (False, True), (True, True))
    return min(corners, key=in_the_way)


def _along(
    line: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]",
) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    """Return closely spaced points along a line."""
    steps = np.linspace(0, len(line) - 1, 20 * len(line))
    return np.column_stack([np.interp(steps, range(len(line)), line[:, axis]) for axis in (0, 1)])


def frontier(canvas: Canvas, data: pd.DataFrame) -> None:
    """Draw the largest batch against the depth, with a panel per series and a colour per budget.

    The column ``what`` selects how a row is drawn: in a line (``predicted``), as a dot
    (``reproduced``) or as a cross (``predicted here``). Crosses are not connected, because the
    values between them are unknown.
    """
    names = [str(name) for name in data["series"].unique()]
    places = panels(canvas, len(names), sharey=True)
    budgets = sorted(int(size) for size in data["budget_bytes"].unique())
    colours = dict(zip(budgets, ordered_colours(len(budgets)), strict=True))
    sizes = data["batch"].to_numpy(dtype=np.float64)
    numbers = _round_numbers(float(sizes.min()), float(sizes.max()))
    for axes, name in zip(places, names, strict=True):
        part = data[data["series"] == name]
        ends = []
        for budget, colour in colours.items():
            own = part[part["budget_bytes"] == budget].sort_values("depth")
            for what, style in (("predicted", "-"), ("reproduced", "o"), ("predicted here", "x")):
                rows = own[own["what"] == what]
                x, y = (rows[key].to_numpy(dtype=np.float64) for key in ("depth", "batch"))
                axes.plot(x, y, style, color=colour, markersize=9 if style == "x" else None)
            if len(own):
                last = own.iloc[-1]
                at, size = float(last["depth"]), float(last["batch"])
                ends.append(End(x=at, y=size, text=bytes_text(budget), colour=colour))
        counts_axis(axes, (int(at) for at in part.loc[part["what"] == "reproduced", "depth"]))
        counts_axis(axes, numbers, which="y", words="{:,.0f}")
        axes.set_ylim(float(sizes.min()) / 1.3, float(sizes.max()) * 1.3)
        axes.set_title(name[0].upper() + name[1:])
        axes.set_xlabel("depth (hidden layers)")
        label_ends(axes, ends, "budget")
    places[0].set_ylabel("largest batch that fits")


def _round_numbers(low: float, high: float) -> list[int]:
    """Return the numbers 1, 2, 5, 10, 20, 50, ... that lie between about ``low`` and ``high``."""
    powers = range(int(np.log10(low)), int(np.log10(high)) + 1)
    numbers = [first * 10**power for power in powers for first in (1, 2, 5)]
    return [number for number in numbers if low / 2 <= number <= 2 * high]
