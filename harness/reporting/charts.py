"""Pictures of a quantity over depth x batch: heat map, growth, ratios, goodness of a fit.

Each function paints ``data`` on an empty canvas, to be handed to a ``Figure`` with
``functools.partial``. Colours run from dark (small) to light (large).
"""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure as Canvas

from harness.reporting.theme import (
    INK,
    QUIET,
    RULE,
    bytes_axis,
    bytes_text,
    counts_axis,
    ordered_colours,
)


def heat_map(canvas: Canvas, data: pd.DataFrame, *, value: str, label: str) -> None:
    """Paint ``value`` (bytes) over depth (rows) and batch (columns), each cell with its number.

    Empty cells are cells without a figure.
    """
    table = data.pivot_table(index="depth", columns="batch", values=value, aggfunc="last")
    numbers = table.to_numpy(dtype=np.float64, na_value=np.nan)
    positive = numbers[np.isfinite(numbers) & (numbers > 0)]
    low = float(positive.min()) if positive.size else 1.0
    high = float(positive.max()) if positive.size else 1.0
    norm = LogNorm(vmin=low, vmax=max(high, low * 2))
    scale = mpl.colormaps["cividis"]
    axes = canvas.add_subplot()
    axes.pcolormesh(
        np.ma.masked_invalid(np.where(numbers > 0, numbers, np.nan)),
        cmap=scale,
        norm=norm,
        edgecolor="white",
        linewidth=1.5,
    )
    for row, column in np.ndindex(numbers.shape):
        number = float(numbers[row, column])
        if np.isfinite(number):
            dark = number > 0 and _is_dark(scale(norm(number)))
            axes.text(
                column + 0.5,
                row + 0.5,
                bytes_text(number).replace(" ", "\n"),
                ha="center",
                va="center",
                fontsize=7.5,
                color="white" if dark else INK,
            )
    axes.set_xticks(np.arange(len(table.columns)) + 0.5, [f"{name}" for name in table.columns])
    axes.set_yticks(np.arange(len(table.index)) + 0.5, [f"{name}" for name in table.index])
    axes.set_xlabel("batch (examples)")
    axes.set_ylabel("depth (hidden layers)")
    axes.set_title(label)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _is_dark(colour: Sequence[float]) -> bool:
    red, green, blue = colour[:3]
    return 0.299 * red + 0.587 * green + 0.114 * blue < 0.5


def growth(canvas: Canvas, data: pd.DataFrame, *, value: str, label: str) -> None:
    """Paint ``value`` against depth (a line per batch) and against batch (a line per depth).

    Points are measured; lines are column ``fitted``. A dashed guide grows in proportion.
    """
    left, right = canvas.subplots(1, 2, sharey=True)
    _lines(left, data, value, along="depth", line="batch")
    _lines(right, data, value, along="batch", line="depth")
    left.set_xlabel("depth (hidden layers)")
    right.set_xlabel("batch (examples)")
    left.set_title("Against depth, one line per batch")
    right.set_title("Against batch, one line per depth")
    bytes_axis(left)
    left.set_ylabel(label)


def _lines(axes: Axes, data: pd.DataFrame, value: str, *, along: str, line: str) -> None:
    names = sorted(int(name) for name in data[line].unique())
    counts_axis(axes, (int(at) for at in data[along]))
    axes.set_yscale("log", base=2)
    for name, colour in zip(names, ordered_colours(len(names)), strict=True):
        part = data[(data[line] == name) & (data[value] > 0)].sort_values(along)
        if part.empty:
            continue
        x = part[along].to_numpy(dtype=np.float64)
        axes.plot(x, part[value].to_numpy(dtype=np.float64), "o", color=colour)
        if "fitted" in part:
            fitted = part["fitted"].to_numpy(dtype=np.float64)
            axes.plot(x[fitted > 0], fitted[fitted > 0], "-", color=colour)
        _end_label(axes, x[-1], float(part[value].iloc[-1]), f"{name}", colour)
    _header(axes, line)
    _guide(axes, data, value, along)


def _end_label(axes: Axes, x: float, y: float, text: str, colour: Any) -> None:
    axes.annotate(
        text,
        (x, y),
        xytext=(7, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
        color=_readable(colour),
        annotation_clip=False,
    )


def _readable(colour: Any) -> Any:
    """Return ``colour``, darkened until text in it can be read on white."""
    red, green, blue = mpl.colors.to_rgb(colour)
    while 0.299 * red + 0.587 * green + 0.114 * blue > 0.42:
        red, green, blue = red * 0.92, green * 0.92, blue * 0.92
    return (red, green, blue)


def _header(axes: Axes, line: str) -> None:
    axes.annotate(
        line,
        (1, 1),
        xycoords="axes fraction",
        xytext=(0, 3),
        textcoords="offset points",
        ha="left",
        va="bottom",
        fontsize=8,
        color=QUIET,
        annotation_clip=False,
    )


def _guide(axes: Axes, data: pd.DataFrame, value: str, along: str) -> None:
    """Draw, through the lowest right-hand point, what growth in proportion looks like."""
    values = data.loc[data[value] > 0, value].astype("float64")
    if values.empty:
        return
    start, stop = float(data[along].min()), float(data[along].max())
    bottom = float(values.min()) / 3
    axes.plot([start, stop], [bottom, bottom * stop / start], "--", color=QUIET, linewidth=1)
    axes.annotate(
        "in proportion",
        (start, bottom),
        xytext=(4, -2),
        textcoords="offset points",
        va="top",
        fontsize=8,
        color=QUIET,
    )


def ratios(canvas: Canvas, data: pd.DataFrame, *, value: str, label: str) -> None:
    """Paint ``value`` (a ratio) against depth, a line per batch, with 1 marked."""
    axes = canvas.add_subplot()
    names = sorted(int(name) for name in data["batch"].unique())
    ends: list[tuple[float, float, str, Any]] = []
    for name, colour in zip(names, ordered_colours(len(names)), strict=True):
        part = data[data["batch"] == name].sort_values("depth")
        x, y = (part[key].to_numpy(dtype=np.float64) for key in ("depth", value))
        axes.plot(x, y, "o-", color=colour)
        ends.append((x[-1], y[-1], f"{name}", colour))
    counts_axis(axes, (int(at) for at in data["depth"]))
    axes.axhline(1, color=QUIET, linewidth=1, linestyle="--")
    axes.set_ylim(bottom=0)
    _spread_labels(axes, ends)
    _header(axes, "batch")
    axes.set_xlabel("depth (hidden layers)")
    axes.set_ylabel("times as much")
    axes.set_title(label)


def _spread_labels(axes: Axes, ends: Sequence[tuple[float, float, str, Any]]) -> None:
    """Label line ends from the bottom up, each at least a text line above the one below."""
    low, high = axes.get_ylim()
    step = (high - low) / 24
    floor = low
    for x, y, text, colour in sorted(ends, key=lambda end: end[1]):
        floor = max(y, floor + step)
        axes.annotate(
            text,
            (x, floor),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=_readable(colour),
            annotation_clip=False,
        )


def fit_check(canvas: Canvas, data: pd.DataFrame, *, label: str) -> None:
    """Paint columns ``fitted`` against ``measured``, and what is left over, in per cent."""
    left, right = canvas.subplots(1, 2)
    known = data[(data["measured"] > 0) & (data["fitted"] > 0)]
    names = sorted(int(name) for name in data["depth"].unique())
    span = [float(known["measured"].min()), float(known["measured"].max())]
    left.plot(span, span, "-", color=RULE, linewidth=3, zorder=0)
    right.axhspan(-10, 10, color=RULE, alpha=0.5, linewidth=0)
    right.axhline(0, color=QUIET, linewidth=1)
    for name, colour in zip(names, ordered_colours(len(names)), strict=True):
        part = known[known["depth"] == name]
        measured = part["measured"].to_numpy(dtype=np.float64)
        fitted = part["fitted"].to_numpy(dtype=np.float64)
        left.plot(measured, fitted, "o", color=colour, label=f"{name}")
        right.plot(measured, 100 * (fitted / measured - 1), "o", color=colour)
    for axes in (left, right):
        axes.set_xlim(span[0] / 1.5, span[1] * 1.5)
        bytes_axis(axes, which="x")
        axes.set_xlabel(f"measured {label}")
    left.set_ylim(span[0] / 1.5, span[1] * 1.5)
    bytes_axis(left)
    left.set_ylabel("fitted")
    left.set_title("Fitted against measured")
    right.set_title("Error of the fit, % of measured")
    right.set_ylabel("fitted is too large (+) or too small (−), %")
    limit = max(12.0, float(np.abs(right.get_ylim()).max()))
    right.set_yscale("symlog", linthresh=10) if limit > 100 else None
    right.set_ylim(-limit, limit)
    left.legend(title="depth", loc="upper left", ncols=2, handletextpad=0.1, columnspacing=0.8)
