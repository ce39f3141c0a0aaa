"""The look of every picture: colours that survive colour blindness, type, quiet axes."""

import math
from collections.abc import Iterable
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from harness.schema.units import format_bytes

# Okabe & Ito (2008), "Color Universal Design".
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
SKY, VERMILION, PURPLE = "#56B4E9", "#D55E00", "#CC79A7"
INK, QUIET, RULE = "#1f2328", "#57606a", "#d8dee4"

CATEGORY_COLOURS = {
    "parameter": BLUE,
    "gradient": ORANGE,
    "optimizer_state": PURPLE,
    "input": SKY,
    "activation": GREEN,
    "temporary": VERMILION,
}
"""By the category of a live byte, in the order in which they are stacked."""

READABLE = 4.5
"""Least contrast of text (WCAG 2.2, level AA)."""

RC: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": QUIET,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "savefig.facecolor": "white",
    "svg.fonttype": "none",
    "svg.hashsalt": "mlp-memory-harness",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": QUIET,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.color": QUIET,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 8.5,
}
"""Settings of matplotlib; text stays text (searchable, small), names from records no formulas."""


def ordered_colours(count: int) -> list[Any]:
    """Return ``count`` colours from dark to light, for values that have an order."""
    scale = mpl.colormaps["cividis"]
    return [scale(0.84 * at / max(count - 1, 1)) for at in range(count)]


def contrast(one: Any, other: Any) -> float:
    """Return the contrast ratio of two colours, 1 to 21 (WCAG 2.2)."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: Any) -> float:
    parts = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in mpl.colors.to_rgb(colour)
    ]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def ink_on(colour: Any) -> str:
    """Return the text colour, black or white, that reads better on ``colour``."""
    return max("black", "white", key=lambda ink: contrast(ink, colour))


def readable(colour: Any) -> Any:
    """Return ``colour``, darkened until text in it can be read on white."""
    shade = mpl.colors.to_rgb(colour)
    while contrast(shade, "white") < READABLE:
        shade = (shade[0] * 0.95, shade[1] * 0.95, shade[2] * 0.95)
    return shade


def bytes_text(size: float, _position: int | None = None) -> str:
    """Return ``size`` for an axis or a cell, such as ``5.55 MiB``."""
    return format_bytes(round(size))


def bytes_axis(axes: Axes, *, which: str = "y", log: bool = True) -> None:
    """Let an axis show bytes in binary units; where logarithmic, at powers of two."""
    axis = axes.yaxis if which == "y" else axes.xaxis
    if log:
        (axes.set_yscale if which == "y" else axes.set_xscale)("log", base=2)
        low, high = axes.get_ylim() if which == "y" else axes.get_xlim()
        axis.set_major_locator(FixedLocator(_power_ticks(low, high)))
        axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(bytes_text))


def _power_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Return powers of two between two positive bounds, at most ``most``, evenly apart."""
    first, last = math.ceil(math.log2(low)), math.floor(math.log2(high))
    apart = max(1, math.ceil((last - first + 1) / most))
    first += -first % apart
    return [2.0**power for power in range(first, last + 1, apart)]


def counts_axis(axes: Axes, values: Iterable[int], *, which: str = "x") -> None:
    """Let a logarithmic axis show exactly ``values``, as plain numbers."""
    ticks = sorted(set(values))
    (axes.set_xscale if which == "x" else axes.set_yscale)("log", base=2)
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
