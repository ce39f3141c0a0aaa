"""Draws estimates and intervals, with one row per estimate."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import NullLocator

from harness.plots.category_colours import BLUE
from harness.plots.theme import INK, QUIET, RULE, byte_ticks, is_narrow, remark, rows_axis


def forest(
    canvas: Canvas, data: pd.DataFrame, *, tolerance: float, label: str, left: str, right: str
) -> None:
    """Draw a row for each ``name``, with a line from ``low`` to ``high`` and ticks at ``ratio``."""
    axes = canvas.add_subplot()
    axes.axvspan(1 / (1 + tolerance), 1 + tolerance, color=RULE, alpha=0.5, linewidth=0)
    axes.axvline(1, color=QUIET, linewidth=1)
    names = [str(name) for name in data["name"].unique()]
    ratios = data[["low", "high", "ratio"]].to_numpy(dtype=np.float64)
    reach = max(1.05 * float(np.exp(np.abs(np.log(ratios)).max())), 1 + 2 * tolerance)
    for place, name in enumerate(names):
        part = data[data["name"].astype(str) == name]
        first = part.iloc[0]
        seen = part["ratio"].to_numpy(dtype=np.float64)
        axes.plot(seen, np.full(len(seen), place + 0.22), "|", color=QUIET, markersize=7)
        ends = [float(first[key]) for key in ("low", "high")]
        axes.plot(ends, [place, place], "-", color=BLUE, linewidth=2.5, solid_capstyle="butt")
        axes.plot([float(first["estimate"])], [place], "o", color=INK, markersize=5)
    rows_axis(axes, names)
    axes.set_xlim(1 / reach / 1.01, reach * 1.01)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(label)
    for at, text, side in ((0.0, f"← {left}", "left"), (1.0, f"{right} →", "right")):
        remark(axes, text, (at, 1.02), xycoords="axes fraction", ha=side)


def ranges(
    canvas: Canvas,
    data: pd.DataFrame,
    *,
    label: str,
    marked: float,
    mark: str,
    in_bytes: bool = False,
    band: tuple[float, float] | None = None,
) -> None:
    """Draw a row for each ``name``: a line from ``low`` to ``high``, and a dot at ``estimate``.

    ``band``, the range of values for which a claim holds, is shaded.
    """
    axes = canvas.add_subplot()
    if band is not None:
        axes.axvspan(*band, color=RULE, alpha=0.5, linewidth=0)
    places = np.arange(len(data))
    low, high = (data[key].to_numpy(dtype=np.float64) for key in ("low", "high"))
    middle = data["estimate"].to_numpy(dtype=np.float64)
    axes.hlines(places, low, high, color=BLUE, linewidth=3, alpha=0.6)
    axes.plot(middle, places, "o", color=INK, markersize=5)
    axes.axvline(marked, color=QUIET, linewidth=1, linestyle="--")
    remark(axes, mark, (marked, 1.02), xycoords=("data", "axes fraction"), ha="center")
    width = 20 if is_narrow(canvas) else 60
    rows_axis(axes, [textwrap.fill(str(name), width) for name in data["name"]])
    top = max(float(high.max()), marked)
    axes.set_xlim(0 if in_bytes else 0.97 * min(float(low.min()), 1.0), 1.03 * top)
    if in_bytes:
        byte_ticks(axes, top)
    axes.set_xlabel(textwrap.fill(label, 26) if is_narrow(canvas) else label)
