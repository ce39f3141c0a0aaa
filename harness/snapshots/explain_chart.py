"""The timeline of a recording as SVG: bytes alive by category over the allocator's events."""

from collections.abc import Iterator, Sequence
from html import escape

from harness.schema.units import format_bytes
from harness.snapshots.explain import Explanation

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c8c", "#6e5f9e")
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
    last = max(1, points[-1][0])
    plot = _WIDTH - _LEFT - 20

    def x(position: int) -> float:
        return _LEFT + plot * position / last

    def y(size: int) -> float:
        return _TOP + _HEIGHT * (1 - size / highest)

    parts_of_svg = list(_axes(highest, last, plot))
    labels: list[tuple[str, str]] = []
    below = [0] * len(points)
    for index, name in enumerate(names):
        above = [low + sizes.get(name, 0) for low, (_, sizes) in zip(below, points, strict=True)]
        edge = [f"{x(p):.1f},{y(v):.1f}" for (p, _), v in zip(points, above, strict=True)]
        back = [f"{x(p):.1f},{y(v):.1f}" for (p, _), v in zip(points, below, strict=True)]
        color = COLORS[index % len(COLORS)]
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
    return (
        f'<div class="wide"><svg viewBox="0 0 {_WIDTH} {height}" font-size="13" role="img" '
        f'aria-label="Bytes alive by category over the events">{"".join(parts_of_svg)}</svg></div>'
        f"{legend(labels)}"
    )


def legend(labels: Sequence[tuple[str, str]]) -> str:
    """Return (color, text) pairs as a list, in the page's own size of text."""
    items = "".join(
        f'<li><svg class="key" viewBox="0 0 10 10" aria-hidden="true">'
        f'<rect width="10" height="10" fill="{color}"/></svg>{escape(text)}</li>'
        for color, text in labels
    )
    return f'<ul class="legend">{items}</ul>'


def _axes(highest: int, last: int, plot: int) -> Iterator[str]:
    for quarter in range(5):
        height = _TOP + _HEIGHT * (1 - quarter / 4)
        yield (
            f'<line x1="{_LEFT}" x2="{_LEFT + plot}" y1="{height:.1f}" y2="{height:.1f}" '
            f'class="rule"/><text x="{_LEFT - 6}" y="{height + 4:.1f}" text-anchor="end">'
            f"{format_bytes(highest * quarter // 4)}</text>"
        )
        at = _LEFT + plot * quarter / 4
        yield (
            f'<text x="{at:.1f}" y="{_TOP + _HEIGHT + 18}" text-anchor="middle">'
            f"{last * quarter // 4:,}</text>"
        )
    yield (
        f'<text x="{_LEFT + plot / 2:.1f}" y="{_TOP + _HEIGHT + 36}" text-anchor="middle">'
        "event of the allocator</text>"
    )
