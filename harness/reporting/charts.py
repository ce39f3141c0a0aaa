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
    CATEGORY_COLOURS,
    INK,
    QUIET,
    RULE,
    bytes_axis,
    bytes_text,
    counts_axis,
    ink_on,
    ordered_colours,
    readable,
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
            axes.text(
                column + 0.5,
                row + 0.5,
                bytes_text(number).replace(" ", "\n"),
                ha="center",
                va="center",
                fontsize=7.5,
                color=ink_on(scale(norm(number))) if number > 0 else INK,
            )
    axes.set_xticks(np.arange(len(table.columns)) + 0.5, [f"{name}" for name in table.columns])
    axes.set_yticks(np.arange(len(table.index)) + 0.5, [f"{name}" for name in table.index])
    axes.set_xlabel("batch (examples)")
    axes.set_ylabel("depth (hidden layers)")
    axes.set_title(label)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def growth(canvas: Canvas, data: pd.DataFrame, *, value: str, label: str) -> None:
    """Paint ``value`` against depth (a line per batch) and against batch (a line per depth).

    Points are measured; lines are column ``best``. A dashed guide grows in proportion.
    """
    left, right = canvas.subplots(1, 2, sharey=True)
    known = data[data[value] > 0]
    low, high = float(known[value].min()), float(known[value].max())
    left.set_ylim(low / 4, high * 2)
    _lines(left, known, value, along="depth", line="batch")
    _lines(right, known, value, along="batch", line="depth")
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
    ends: list[_End] = []
    for name, colour in zip(names, ordered_colours(len(names)), strict=True):
        part = data[data[line] == name].sort_values(along)
        x, y = (part[key].to_numpy(dtype=np.float64) for key in (along, value))
        axes.plot(x, y, "o", color=colour)
        best = part["best"].to_numpy(dtype=np.float64)
        axes.plot(x[best > 0], best[best > 0], "-", color=colour)
        ends.append((x[-1], y[-1], f"{name}", colour))
    _label_ends(axes, ends)
    _header(axes, line)
    _guide(axes, data, value, along)


_End = tuple[float, float, str, Any]
"""Where a line ends (x, y), its label and its colour."""


def _label_ends(axes: Axes, ends: Sequence[_End]) -> None:
    """Label line ends beside the axes, as near to their lines as a text line's height allows."""
    to_screen = axes.transData + axes.transAxes.inverted()
    heights = [float(to_screen.transform((x, y))[1]) for x, y, _, _ in ends]
    order = sorted(range(len(ends)), key=lambda at: heights[at])
    for at, height in zip(order, _apart([heights[at] for at in order], 0.042), strict=True):
        x, y, text, colour = ends[at]
        axes.annotate(
            text,
            (x, y),
            xytext=(1.025, height),
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            color=readable(colour),
            annotation_clip=False,
        )


def _apart(heights: Sequence[float], step: float) -> list[float]:
    """Move ascending ``heights`` as little as possible until they are ``step`` apart.

    Pool-adjacent-violators: neighbours that collide share the mean of their places.
    """
    pools: list[list[float]] = []
    for number, height in enumerate(heights):
        pools.append([height - number * step])
        while len(pools) > 1 and _mean(pools[-2]) > _mean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    flat = [_mean(pool) for pool in pools for _ in pool]
    return [place + number * step for number, place in enumerate(flat)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _header(axes: Axes, line: str) -> None:
    axes.annotate(
        line,
        (1.025, 1.0),
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
    """Draw below the lines what growth in proportion looks like."""
    low, high = float(data[value].min()) / 2.5, float(data[value].max())
    start, stop = float(data[along].min()), float(data[along].max())
    stop = min(stop, start * high / low)
    axes.plot([start, stop], [low, low * stop / start], "--", color=QUIET, linewidth=1)
    axes.annotate(
        "in proportion",
        (start, low),
        xytext=(6, -2),
        textcoords="offset points",
        va="top",
        fontsize=8,
        color=QUIET,
    )


def ratios(canvas: Canvas, data: pd.DataFrame, *, value: str, label: str) -> None:
    """Paint ``value`` (a ratio) against depth, a line per batch, with 1 marked."""
    axes = canvas.add_subplot()
    names = sorted(int(name) for name in data["batch"].unique())
    ends: list[_End] = []
    for name, colour in zip(names, ordered_colours(len(names)), strict=True):
        part = data[data["batch"] == name].sort_values("depth")
        x, y = (part[key].to_numpy(dtype=np.float64) for key in ("depth", value))
        axes.plot(x, y, "o-", color=colour)
        ends.append((x[-1], y[-1], f"{name}", colour))
    counts_axis(axes, (int(at) for at in data["depth"]))
    axes.axhline(1, color=QUIET, linewidth=1, linestyle="--")
    axes.set_ylim(bottom=0)
    _label_ends(axes, ends)
    _header(axes, "batch")
    axes.set_xlabel("depth (hidden layers)")
    axes.set_ylabel("times as much")
    axes.set_title(label)


def composition(canvas: Canvas, data: pd.DataFrame) -> None:
    """Paint what is alive at the peak, in shares, against depth; a panel per batch.

    ``data`` holds ``depth``, ``batch`` and a column of bytes per category.
    """
    batches = sorted(int(batch) for batch in data["batch"].unique())
    panels = canvas.subplots(1, len(batches), sharey=True, squeeze=False)[0]
    names = [name for name in CATEGORY_COLOURS if bool((data[name] > 0).any())]
    for axes, batch in zip(panels, batches, strict=True):
        part = data[data["batch"] == batch].sort_values("depth")
        total = part[names].sum(axis=1).to_numpy(dtype=np.float64)
        base = np.zeros(len(part))
        for name in names:
            share = 100 * part[name].to_numpy(dtype=np.float64) / total
            places = np.arange(len(part))
            axes.bar(places, share, 0.86, bottom=base, color=CATEGORY_COLOURS[name], label=name)
            base = base + share
        axes.set_xticks(np.arange(len(part)), [f"{depth}" for depth in part["depth"]])
        axes.set_title(f"Batch {batch}")
        axes.set_xlabel("depth (hidden layers)")
        axes.grid(visible=False, axis="x")
        axes.tick_params(axis="x", length=0)
    panels[0].set_ylim(0, 100)
    panels[0].set_ylabel("share of the peak, %")
    handles, texts = panels[0].get_legend_handles_labels()
    texts = [text.replace("_", " ") for text in texts]
    canvas.legend(handles[::-1], texts[::-1], loc="outside right upper")


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
    right.set_ylim(-limit, limit)
    left.legend(title="depth", loc="upper left", ncols=2, handletextpad=0.1, columnspacing=0.8)
