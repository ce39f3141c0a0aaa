"""Pictures of a quantity along one variable: named series, fits, spreads, stacked parts.

Data are long: a row a point, column ``series`` names its line. Series differ in colour and
in marker. Each function paints ``data`` on an empty canvas.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from harness.reporting.theme import (
    BLUE,
    CATEGORY_COLOURS,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    QUIET,
    SKY,
    VERMILION,
    bytes_text,
    counts_axis,
)
from harness.schema.units import format_bytes

STYLES = (
    (BLUE, "o"), (VERMILION, "s"), (GREEN, "^"), (PURPLE, "D"), (ORANGE, "v"), (SKY, "P"),
)  # fmt: skip


def curves(
    canvas: Canvas,
    data: pd.DataFrame,
    *,
    x: str,
    y: str,
    x_label: str,
    y_label: str,
    ticks: Sequence[int] | None = None,
    bytes_y: bool = True,
    level: float | None = None,
) -> None:
    """Paint ``y`` against ``x`` (logarithmic), a line a series, a panel for each ``panel``.

    A column ``fitted`` becomes a line without markers while ``y`` is points alone; columns
    ``low`` and ``high`` become bars; ``level`` is marked across.
    """
    names = list(data["panel"].unique()) if "panel" in data else [None]
    panels = canvas.subplots(1, len(names), sharey=len(names) > 1, squeeze=False)[0]
    series = list(data["series"].unique())
    for axes, name in zip(panels, names, strict=True):
        part = data if name is None else data[data["panel"] == name]
        for one, (colour, marker) in zip(series, STYLES, strict=False):
            _curve(axes, part[part["series"] == one], x, y, str(one), colour, marker)
        counts_axis(axes, ticks or sorted({int(at) for at in part[x]}))
        axes.set_xlabel(x_label)
        if name is not None:
            axes.set_title(str(name))
        if level is not None:
            axes.axhline(level, color=QUIET, linewidth=1, linestyle="--")
    if bytes_y:
        from_zero(panels[0], float(data[y].max()))
    else:
        panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel(y_label)
    if len(series) > 1:
        handles, texts = panels[0].get_legend_handles_labels()
        canvas.legend(handles, texts, loc="outside lower center", ncols=min(len(series), 4))


def _curve(
    axes: Axes, part: pd.DataFrame, x: str, y: str, name: str, colour: str, marker: str
) -> None:
    part = part.sort_values(x)
    at, value = (part[key].to_numpy(dtype=np.float64, na_value=np.nan) for key in (x, y))
    if "fitted" in part:
        fitted = part["fitted"].to_numpy(dtype=np.float64, na_value=np.nan)
        axes.plot(at, fitted, "-", color=colour)
    style = marker if "fitted" in part else f"{marker}-"
    axes.plot(at, value, style, color=colour, label=name)
    if "low" in part:
        low, high = (part[key].to_numpy(dtype=np.float64) for key in ("low", "high"))
        axes.vlines(at, low, high, color=colour, linewidth=1.4, alpha=0.7)


def from_zero(axes: Axes, top: float) -> None:
    """Let the upright axis show bytes from zero to a little above ``top``, at round ticks."""
    step = 2.0 ** round(np.log2(max(top, 4) / 4))
    ticks = [step * at for at in range(int(1.12 * top // step) + 1)]
    axes.set_yticks(ticks, [bytes_text(tick) for tick in ticks])
    axes.set_ylim(0, 1.12 * top)


def parts(canvas: Canvas, data: pd.DataFrame, *, y_label: str, x_label: str = "") -> None:
    """Paint stacked bars of categories in bytes, a bar a row, labelled by column ``label``.

    Rows with equal ``panel`` stand together under its name. The total stands above each bar.
    """
    groups = list(data["panel"].unique())
    panels = canvas.subplots(1, len(groups), squeeze=False)[0]
    names = [name for name in CATEGORY_COLOURS if name in data and bool((data[name] > 0).any())]
    for axes, group in zip(panels, groups, strict=True):
        part = data[data["panel"] == group]
        places, base = np.arange(len(part)), np.zeros(len(part))
        for name in names:
            size = part[name].to_numpy(dtype=np.float64)
            axes.bar(places, size, 0.78, bottom=base, color=CATEGORY_COLOURS[name], label=name)
            base = base + size
        for place, total in zip(places, base, strict=True):
            axes.annotate(
                format_bytes(round(total)).replace(" ", "\n"),
                (place, total),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=7.5,
                color=INK,
            )
        from_zero(axes, float(base.max()))
        axes.set_xticks(places, [str(label).replace(" ", "\n") for label in part["label"]])
        axes.set_title(str(group))
        axes.set_xlabel(x_label)
        axes.grid(visible=False, axis="x")
        axes.tick_params(axis="x", length=0)
    panels[0].set_ylabel(y_label)
    handles, texts = panels[0].get_legend_handles_labels()
    texts = [text.replace("_", " ") for text in texts]
    canvas.legend(handles[::-1], texts[::-1], loc="outside right upper")
