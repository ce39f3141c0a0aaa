"""Names at the ends of lines, moved apart where they would collide, with leaders to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from harness.plots.theme import INK, remark

TEXT_INCHES = 0.15
"""What a line of label text needs."""

_LEADER_STOP, _TEXT_START = 1.055, 1.07
"""Where a leader ends and its name begins, in widths of the axes."""


@dataclass(frozen=True, kw_only=True)
class End:
    """The end of a line, in data coordinates, and its label there."""

    x: float
    y: float
    text: str
    colour: str


def label_ends(axes: Axes, ends: Sequence[End], title: str = "") -> None:
    """Name each line next to the axes; ``title`` says what the names are."""
    canvas = axes.figure
    assert canvas is not None
    height = float(axes.get_position().height * canvas.get_figheight())  # type: ignore[union-attr]
    to_axes = axes.transData + axes.transAxes.inverted()
    spots = {end: to_axes.transform((end.x, end.y)) for end in ends}
    order = sorted(ends, key=lambda end: float(spots[end][1]))
    step = TEXT_INCHES / max(height, 0.5)
    heights = apart([float(spots[end][1]) for end in order], step)
    for end, place in zip(order, heights, strict=True):
        x, y = (float(part) for part in spots[end])
        style: dict[str, Any] = {"va": "center", "fontsize": 8.5, "color": INK}
        axes.text(_TEXT_START, place, end.text, transform=axes.transAxes, **style)
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
