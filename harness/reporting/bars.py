"""Horizontal bars: bytes stacked by category, and counts, in panels side by side.

Each function paints ``data`` on an empty canvas, to be handed to a ``Figure`` with
``functools.partial``. Bars and panels stand in the order in which ``data`` first names them.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from harness.reporting.theme import BLUE, CATEGORY_COLOURS, INK, bytes_text

_ROOM = 1.28
"""How far an axis goes beyond the longest bar, for the number at its end."""


def stacked(
    canvas: Canvas, data: pd.DataFrame, *, panel: str, bar: str, shared: bool = False
) -> None:
    """Paint a bar of live bytes per row, a part for each category, its total beside it.

    ``data`` holds the columns ``panel`` and ``bar`` (one row each) and the bytes of each
    category. Every panel has a scale of its own, unless it is ``shared``.
    """
    names = [name for name in CATEGORY_COLOURS if bool((data[name] > 0).any())]
    panels = [str(name) for name in data[panel].unique()]
    places = canvas.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    top = float(data[names].sum(axis=1).max())
    for axes, title in zip(places, panels, strict=True):
        part = data[data[panel].astype(str) == title]
        base = np.zeros(len(part))
        for name in names:
            size = part[name].to_numpy(dtype=np.float64)
            axes.barh(
                np.arange(len(part)),
                size,
                0.78,
                left=base,
                color=CATEGORY_COLOURS[name],
                label=name,
            )
            base = base + size
        _names(axes, part, bar)
        _totals(axes, base, [bytes_text(total) for total in base])
        if shared:
            axes.set_xlim(0, _ROOM * top)
        _byte_ticks(axes, top if shared else float(base.max()))
        axes.set_title(title)
        axes.set_xlabel("live bytes at the peak")
    handles, texts = places[0].get_legend_handles_labels()
    texts = [text.replace("_", " ") for text in texts]
    canvas.legend(handles, texts, loc="outside lower center", ncols=len(names))


def counts(canvas: Canvas, data: pd.DataFrame, *, panel: str, bar: str, value: str) -> None:
    """Paint a bar of the whole number ``value`` per row; the axis is named after ``value``."""
    panels = [str(name) for name in data[panel].unique()]
    places = canvas.subplots(1, len(panels), sharey=True, sharex=True, squeeze=False)[0]
    for axes, title in zip(places, panels, strict=True):
        part = data[data[panel].astype(str) == title]
        numbers = part[value].to_numpy(dtype=np.float64)
        axes.barh(np.arange(len(part)), numbers, 0.7, color=BLUE)
        _names(axes, part, bar)
        _totals(axes, numbers, [f"{number:g}" for number in numbers])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title(title)
        axes.set_xlabel(value.replace("_", " "))


def _names(axes: Axes, part: pd.DataFrame, bar: str) -> None:
    axes.set_yticks(np.arange(len(part)), [str(name) for name in part[bar]])
    axes.set_ylim(len(part) - 0.4, -0.6)  # the first row on top
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def _totals(axes: Axes, ends: np.ndarray, texts: list[str]) -> None:
    for place, (end, text) in enumerate(zip(ends, texts, strict=True)):
        axes.annotate(
            text,
            (end, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=INK,
        )
    axes.set_xlim(0, _ROOM * float(ends.max()) or 1.0)


def _byte_ticks(axes: Axes, top: float) -> None:
    """Mark whole powers of two, about three of them."""
    step = 2.0 ** round(np.log2(max(top, 4) / 3))
    ticks = [step * at for at in range(int(1.12 * top // step) + 1)]
    axes.set_xticks(ticks, [bytes_text(tick) for tick in ticks])
