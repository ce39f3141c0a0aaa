"""The style of all figures: axes, fonts, and colours that colour-blind readers can distinguish."""

import math
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from harness.plots.category_colours import PART_COLOURS
from harness.schema.units import format_bytes

INK, QUIET, RULE = "#1f2328", "#57606a", "#d8dee4"
PAPER = "#fefefe"
"""Background colour of a figure; dark mode replaces this colour, but keeps pure white."""

DARK = {INK: "#e6e9ed", QUIET: "#a5aeb8", RULE: "#343b44", PAPER: "#14181d"}
"""Replacement colours for a dark page; ``dark_colours`` adds the shades of ordered scales."""

WIDE = (8.6, 4.4)
"""Size in inches of a figure that is as wide as a page."""

NARROW_INCHES = 4.0
"""Width in inches of a figure for phones."""

_COLOURS = {"INK": INK, "QUIET": QUIET, "RULE": RULE}
_SETTINGS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
RC: Any = {name: _COLOURS.get(value, value) for name, value in _SETTINGS.items()}
"""Settings of matplotlib; SVG text stays text."""


_STEPS = 64
"""Number of shades in an ordered colour scale; each shade has a replacement for dark pages."""


def ordered_colours(count: int) -> list[str]:
    """Return ``count`` colours from dark to light, for values with an order."""
    return [_shade(round((_STEPS - 1) * at / max(count - 1, 1))) for at in range(count)]


def depth_colours(depths: Sequence[int]) -> list[str]:
    """Return the colour of each depth, from dark for depth 1 to light for depth 64 and more."""
    return [_shade(round((_STEPS - 1) * min(math.log2(max(at, 1)) / 6, 1.0))) for at in depths]


def _shade(step: int, *, low: float = 0.0, high: float = 0.82) -> str:
    scale = mpl.colormaps["viridis"]
    return mpl.colors.to_hex(scale(low + (high - low) * step / (_STEPS - 1)))


def dark_colours() -> dict[str, str]:
    """Return the colours that change in dark mode, each with its replacement."""
    shades = {_shade(step): _shade(step, low=0.35, high=1.0) for step in range(_STEPS)}
    return DARK | shades


def is_narrow(canvas: Canvas) -> bool:
    """Return whether the figure has the width for a phone."""
    return bool(canvas.get_figwidth() <= NARROW_INCHES)


def panels(canvas: Canvas, count: int, *, height: float = 2.7, sharey: bool = False) -> list[Axes]:
    """Return ``count`` axes, placed side by side, or below each other on a phone."""
    if not is_narrow(canvas):
        return list(canvas.subplots(1, count, sharey=sharey, squeeze=False)[0])
    canvas.set_figheight(height * count + 0.5)
    return [row[0] for row in canvas.subplots(count, 1, sharey=sharey, squeeze=False)]


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
    """Return black or white, whichever has more contrast as text on ``colour``."""
    return max("black", "white", key=lambda ink: contrast(ink, colour))


def bytes_text(size: float, _position: int | None = None) -> str:
    """Return ``size`` as text for an axis or a cell, such as ``5.55 MiB``."""
    return format_bytes(round(size))


def remark(
    axes: Axes,
    text: str,
    at: tuple[float, float],
    offset: tuple[float, float] = (0, 0),
    **options: Any,
) -> None:
    """Draw a small grey text at position ``at``, moved by ``offset`` points."""
    options |= {"fontsize": 8.5, "color": QUIET}
    axes.annotate(text, at, xytext=offset, textcoords="offset points", **options)


def byte_ticks(
    axes: Axes, top: float, *, which: str = "x", reach: float = 1.12, count: float = 2.5
) -> None:
    """Set about ``count`` ticks at multiples of a power of two, from 0 to ``reach * top``."""
    step = 2.0 ** round(math.log2(max(top, 4) / count))
    ticks = [step * at for at in range(int(reach * top // step) + 1)]
    set_ticks = axes.set_xticks if which == "x" else axes.set_yticks
    set_ticks(ticks, [bytes_text(tick) for tick in ticks])


def rows_axis(axes: Axes, names: Sequence[str]) -> None:
    """Label the rows of the y axis with ``names``; the first name is at the top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def category_legend(
    canvas: Canvas, names: Sequence[str], words: str = "", narrow_columns: int = 3
) -> None:
    """Draw a legend of category colours below the figure; ``words`` is added to each name."""
    handles = [Patch(color=PART_COLOURS[name]) for name in names]
    texts = [f"{name.replace('_', ' ')}{words}" for name in names]
    columns = narrow_columns if is_narrow(canvas) else len(names)
    canvas.legend(handles, texts, loc="outside lower center", ncols=columns)


def bytes_axis(axes: Axes) -> None:
    """Make the y axis logarithmic, with ticks in bytes at powers of two."""
    axes.set_yscale("log", base=2)
    _doublings(axes.yaxis, _power_ticks(*axes.get_ylim()), bytes_text)


def _power_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Return at most ``most`` evenly spaced powers of two between ``low`` and ``high``."""
    first, last = math.ceil(math.log2(low)), math.floor(math.log2(high))
    apart = max(1, math.ceil((last - first + 1) / most))
    first += -first % apart
    return [2.0**power for power in range(first, last + 1, apart)]


def counts_axis(
    axes: Axes, values: Iterable[int], *, which: str = "x", words: str = "{:g}"
) -> None:
    """Make an axis logarithmic, with ticks exactly at ``values``."""
    (axes.set_xscale if which == "x" else axes.set_yscale)("log", base=2)
    axis = axes.xaxis if which == "x" else axes.yaxis
    _doublings(axis, sorted(set(values)), lambda value, _: words.format(value))


def _doublings(axis: Axis, ticks: Sequence[float], text: Callable[[float, int], str]) -> None:
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(text))


LABEL_INCHES = 0.15
"""Height of a line of label text, in inches."""

_NEAR_THE_NAMES, _LEADER_STOP, _TEXT_START = 0.85, 1.055, 1.07
"""Horizontal positions as fractions of the axes' width: the smallest line end that gets a leader
line, the end of the leader line, and the start of the label."""


@dataclass(frozen=True, kw_only=True)
class End:
    """The end of a line in data coordinates, with the label and colour of the line."""

    x: float
    y: float
    text: str
    colour: str


def label_ends(axes: Axes, ends: Sequence[End], title: str = "") -> None:
    """Label each line to the right of the axes, and write ``title`` above the labels.

    A leader line connects the end of a line to its label. A line that ends far from the right edge
    is labelled at that end, because a long leader line looks like data.
    """
    canvas = axes.figure
    assert canvas is not None
    height = float(axes.get_position().height * canvas.get_figheight())  # type: ignore[union-attr]
    to_axes = axes.transData + axes.transAxes.inverted()
    spots = {end: to_axes.transform((end.x, end.y)) for end in ends}
    style: dict[str, Any] = {"fontsize": 8.5, "color": INK, "transform": axes.transAxes}
    early = [end for end in ends if spots[end][0] < _NEAR_THE_NAMES]
    for end in early:
        x, y = (float(part) for part in spots[end])
        axes.text(x + 0.015, y - 0.015, end.text, va="top", **style)
    late = [end for end in spots if end not in early]  # no set: its order changes from run to run
    order = sorted(late, key=lambda end: float(spots[end][1]))
    step = LABEL_INCHES / max(height, 0.5)
    heights = apart([float(spots[end][1]) for end in order], step)
    for end, place in zip(order, heights, strict=True):
        x, y = (float(part) for part in spots[end])
        axes.text(_TEXT_START, place, end.text, va="center", **style)
        leader = Line2D(  # an annotation's arrow is clipped to its text in a quarter of the time
            (x, _LEADER_STOP),
            (y, place),
            transform=axes.transAxes,
            clip_on=False,
            color=end.colour,
            linewidth=0.8,
        )
        axes.add_artist(leader)
    if title:
        top = max([1.0, *heights]) if heights else 1.0
        above: dict[str, Any] = {"xycoords": "axes fraction", "va": "bottom"}
        remark(axes, title, (_TEXT_START, top), (0, 8), annotation_clip=False, **above)


def apart(heights: Sequence[float], step: float) -> list[float]:
    """Return ascending ``heights``, moved as little as possible to be at least ``step`` apart.

    In this pool-adjacent-violators algorithm, neighbours that collide share their mean position.
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
