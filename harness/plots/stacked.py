"""Draws stacked bars of live bytes, in which each part of a bar is a category.

Bars and panels have the order in which they first appear in the data.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas

from harness.plots.category_colours import PART_COLOURS
from harness.plots.theme import (
    INK,
    byte_ticks,
    bytes_text,
    category_legend,
    ink_on,
    is_narrow,
    panels,
    rows_axis,
)

_ROOM = 1.3
"""Length of an axis relative to the longest bar; the number after the bar needs the space."""


def stacked(
    canvas: Canvas,
    data: pd.DataFrame,
    *,
    panel: str,
    bar: str,
    label: str = "live bytes at the peak",
    bar_label: str = "",
    shared: bool = False,
    shares: bool = False,
) -> None:
    """Draw a stacked bar for each row of ``data``, with a part per category and the total.

    Rows with the same value in column ``panel`` are in the same panel. With ``shared``, all panels
    have the same scale. With ``shares``, the bars show percentages, and the totals stay in bytes.
    """
    names = [name for name in PART_COLOURS if name in data and bool((data[name] > 0).any())]
    titles = [str(name) for name in data[panel].unique()]
    most = max(int((data[panel].astype(str) == title).sum()) for title in titles)
    places = panels(canvas, len(titles), height=0.24 * most + 0.95)
    top = float(data[names].sum(axis=1).max())
    for axes, title in zip(places, titles, strict=True):
        part = data[data[panel].astype(str) == title]
        sizes = [part[name].to_numpy(dtype=np.float64) for name in names]
        total = np.sum(sizes, axis=0)
        if shares:
            sizes = [100 * size / np.maximum(total, 1) for size in sizes]
        ends = np.zeros(len(part))
        for name, size in zip(names, sizes, strict=True):
            axes.barh(np.arange(len(size)), size, 0.78, left=ends, color=PART_COLOURS[name])
            ends = ends + size
        rows_axis(axes, [str(name) for name in part[bar]])
        repeated = list(part[bar]) == list(data.loc[data[panel].astype(str) == titles[0], bar])
        if repeated and axes is not places[0] and not is_narrow(canvas):
            axes.tick_params(labelleft=False)
        longest = 100.0 if shares else top if shared else float(total.max())
        axes.set_xlim(0, _ROOM * longest or 1.0)
        for place, end in enumerate(np.sum(sizes, axis=0)):
            axes.annotate(
                bytes_text(total[place]),
                (end, place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color=INK,
            )
        if shares:
            axes.set_xticks([0, 50, 100], ["0%", "50%", "100%"])
        else:
            byte_ticks(axes, longest)
        axes.set_title(title)
        if bar_label and (axes is places[0] or is_narrow(canvas)):
            axes.set_ylabel(bar_label)
    (places[-1] if is_narrow(canvas) else places[0]).set_xlabel(label)
    category_legend(canvas, names)


def owners(canvas: Canvas, data: pd.DataFrame) -> None:
    """Draw a grid of depths and batches, coloured by the largest category at the peak."""
    narrow = is_narrow(canvas)
    shares = [f"{100 * float(share):.0f}" for share in data["share"]]
    sizes = [bytes_text(float(peak)) for peak in data["peak_live_bytes"]]
    words = [
        share if narrow else f"{share}%\n{size}" for share, size in zip(shares, sizes, strict=True)
    ]
    _cells(canvas, data, [PART_COLOURS[str(owner)] for owner in data["owner"]], words)
    led = [name for name in PART_COLOURS if name in set(data["owner"])]
    category_legend(canvas, led, " leads", narrow_columns=2)


def _cells(
    canvas: Canvas, data: pd.DataFrame, colours: Sequence[str], words: Sequence[str]
) -> None:
    """Draw a coloured cell with text for each row of ``data``."""
    axes = canvas.add_subplot()
    depths, batches = (sorted(int(at) for at in data[key].unique()) for key in ("depth", "batch"))
    narrow = is_narrow(canvas)
    for depth, batch, colour, text in zip(
        data["depth"], data["batch"], colours, words, strict=True
    ):
        row, column = depths.index(int(depth)), batches.index(int(batch))
        axes.barh(row, 0.95, 0.93, left=column - 0.475, color=colour)
        size = 8 if narrow else 7.5
        ink = ink_on(colour)
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=ink)
    axes.set_xticks(range(len(batches)), [f"{batch}" for batch in batches])
    if narrow:
        axes.tick_params(axis="x", labelrotation=45)
    axes.set_yticks(range(len(depths)), [f"{depth}" for depth in depths])
    axes.set_xlabel("batch (examples)")
    axes.set_ylabel("depth (hidden layers)")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
