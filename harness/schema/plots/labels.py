"""Names at the ends of lines, moved apart where they would collide, with leaders to them."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from harness.schema.plots.theme import INK, QUIET

TEXT_INCHES = 0.15
"""What a line of label text needs."""


@dataclass(frozen=True, kw_only=True)
class End:
    """Where a line ends, in data coordinates, and what to call it there."""

    x: float
    y: float
    text: str
    colour: str


def label_ends(axes: Axes, ends: Sequence[End], title: str = "") -> None:
    """Name each line next to the axes; ``title`` says what the names are.

    A thin leader in the line's colour joins each name to its line's end. Call it once the
    limits of the axes are set.
    """
    canvas = axes.figure
    assert canvas is not None
    height = float(axes.get_position().height * canvas.get_figheight())  # type: ignore[union-attr]
    to_axes = axes.transData + axes.transAxes.inverted()
    spots = [to_axes.transform((end.x, end.y)) for end in ends]
    order = sorted(range(len(ends)), key=lambda at: float(spots[at][1]))
    heights = apart([float(spots[at][1]) for at in order], TEXT_INCHES / max(height, 0.5))
    for at, place in zip(order, heights, strict=True):
        end = ends[at]
        axes.annotate(
            end.text,
            (float(spots[at][0]), float(spots[at][1])),
            xycoords="axes fraction",
            xytext=(1.07, place),
            textcoords="axes fraction",
            va="center",
            fontsize=8.5,
            color=INK,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": end.colour,
                "linewidth": 0.8,
                "shrinkA": 1,
                "shrinkB": 3,
            },
        )
    if title:
        top = max([1.0, *heights]) if heights else 1.0
        axes.annotate(
            title,
            (1.07, top),
            xycoords="axes fraction",
            xytext=(0, 8),
            textcoords="offset points",
            va="bottom",
            fontsize=8.5,
            color=QUIET,
            annotation_clip=False,
        )


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
