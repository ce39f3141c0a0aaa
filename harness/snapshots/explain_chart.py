"""The timeline of a recording as SVG: bytes alive by category over the allocator's events."""

from collections.abc import Iterator, Mapping
from html import escape

from harness.schema.category_colours import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VIOLET,
)
from harness.schema.self_contained_page import legend, scrolling
from harness.schema.units import format_bytes
from harness.snapshots.categories import CATEGORIES, Category
from harness.snapshots.explain import Explanation

_COLOURS: Mapping[Category, str] = {
    "parameter": BLUE,
    "optimizer": PURPLE,
    "forward": GREEN,
    "backward": ORANGE,
    "workspace": VIOLET,
    "other": SKY,
    "unknown": GREY,
}
COLOUR_OF_WORDS = {CATEGORIES[name]: colour for name, colour in _COLOURS.items()}
"""By the words that an explanation uses for a category."""
_WIDTH, _HEIGHT, _LEFT, _TOP = 900, 320, 80, 20


def timeline_chart(explanation: Explanation) -> str:
    """Return the timeline as SVG with its legend, both self-contained."""
    points = explanation.timeline
    if not points:
        return "<p>The recording has no events.</p>"
    totals: dict[str, int] = {}
    for _, sizes in points:
        for name, size in sizes.items():
            totals[name] = max(totals.get(name, 0), size)
    names = [name for name in sorted(totals, key=lambda name: -totals[name]) if totals[name] > 0]
    highest = max(sum(sizes.values()) for _, sizes in points) or 1
    step = max(1, 1 << (highest // 4).bit_length())  # ticks are whole powers of two
    last = max(1, points[-1][0])
    plot = _WIDTH - _LEFT - 20

    def x(position: int) -> float:
        return _LEFT + plot * position / last

    def y(size: int) -> float:
        return _TOP + _HEIGHT * (1 - size / highest)

    parts_of_svg = list(_axes(highest, step, last, plot))
    labels: list[tuple[str, str]] = []
    below = [0] * len(points)
    for name in names:
        above = [low + sizes.get(name, 0) for low, (_, sizes) in zip(below, points, strict=True)]
        edge = [f"{x(p):.1f},{y(v):.1f}" for (p, _), v in zip(points, above, strict=True)]
        back = [f"{x(p):.1f},{y(v):.1f}" for (p, _), v in zip(points, below, strict=True)]
        color = COLOUR_OF_WORDS.get(name, GREY)
        label = f"{name} (most: {format_bytes(totals[name])})"
        labels.append((color, label))
        parts_of_svg.append(
            f'<polygon points="{" ".join(edge + back[::-1])}" fill="{color}">'
            f"<title>{escape(label)}</title></polygon>"
        )
        below = above
    if explanation.failure is not None:
        at = x(min(explanation.failure.position, last))
        parts_of_svg.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{_TOP + _HEIGHT}" class="failure" '
            f'stroke-dasharray="4 3"/><text x="{at - 6:.1f}" y="{_TOP - 5}" text-anchor="end" '
            'class="failure">out of memory</text>'
        )
    height = _TOP + _HEIGHT + 44
    picture = (
        f'<svg viewBox="0 0 {_WIDTH} {height}" font-size="13" role="img" '
        f'aria-label="Bytes alive by category over the events">{"".join(parts_of_svg)}</svg>'
    )
    return scrolling("Timeline", picture) + legend(labels)


def _axes(highest: int, step: int, last: int, plot: int) -> Iterator[str]:
    for size in range(0, highest + 1, step):
        height = _TOP + _HEIGHT * (1 - size / highest)
        yield (
            f'<line x1="{_LEFT}" x2="{_LEFT + plot}" y1="{height:.1f}" y2="{height:.1f}" '
            f'class="rule"/><text x="{_LEFT - 6}" y="{height + 4:.1f}" text-anchor="end">'
            f"{format_bytes(size)}</text>"
        )
    for quarter in range(5):
        at = _LEFT + plot * quarter / 4
        yield (
            f'<text x="{at:.1f}" y="{_TOP + _HEIGHT + 18}" text-anchor="middle">'
            f"{last * quarter // 4:,}</text>"
        )
    yield (
        f'<text x="{_LEFT + plot / 2:.1f}" y="{_TOP + _HEIGHT + 36}" text-anchor="middle">'
        "event of the allocator</text>"
    )
