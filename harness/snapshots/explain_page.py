"""A recording explained as one self-contained page: no script, nothing loaded from elsewhere."""

from collections.abc import Iterator, Sequence
from html import escape

from harness.schema.units import format_bytes
from harness.snapshots.explain import Explanation
from harness.snapshots.explain_text import explanation_text, outcome
from harness.snapshots.oom_message import OutOfMemoryMessage, advice
from harness.snapshots.oom_text import parts

_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c8c", "#4d4d4d")
_WIDTH, _HEIGHT, _LEFT, _TOP = 900, 320, 80, 20
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "color:#1a1a1a;background:#fff}table{border-collapse:collapse}td,th{padding:.2rem .8rem;"
    "border-bottom:1px solid #ddd;text-align:left}pre{overflow-x:auto;font-size:13px}"
    "svg{max-width:100%;height:auto}"
)


def explanation_page(explanations: Sequence[Explanation]) -> str:
    """Return the page of all devices; every text from the recording is escaped."""
    body = "".join(_device(explanation) for explanation in explanations)
    return _page("Memory snapshot explained", body)


def message_page(message: OutOfMemoryMessage) -> str:
    """Return the page of an out-of-memory message with a bar of the GPU's memory."""
    bars, x = [], float(_LEFT)
    for index, (_, name, size) in enumerate(parts(message)):
        width = (_WIDTH - _LEFT) * size / message.total_bytes
        label = escape(f"{name}: {format_bytes(size)}")
        color = _COLORS[index % len(_COLORS)]
        bars.append(
            f'<rect x="{x:.1f}" y="20" width="{width:.1f}" height="40" fill="{color}">'
            f"<title>{label}</title></rect>"
            f'<rect x="{_LEFT}" y="{80 + 22 * index}" width="14" height="14" fill="{color}"/>'
            f'<text x="{_LEFT + 20}" y="{92 + 22 * index}">{label}</text>'
        )
        x += width
    svg = (
        f'<svg viewBox="0 0 {_WIDTH + 20} {100 + 22 * len(bars)}" role="img" '
        f'aria-label="The GPU\'s memory at the failure">{"".join(bars)}</svg>'
    )
    body = f"<h2>{escape(message.cause())}</h2><p>{escape(advice(message))}</p>{svg}"
    return _page("Out of memory explained", body)


def _page(title: str, body: str) -> str:
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>{body}"
        "</body></html>\n"
    )


def _device(explanation: Explanation) -> str:
    rows = "".join(
        f"<tr><td>{escape(case.name)}</td><td>{escape(outcome(case))}</td></tr>"
        for case in explanation.what_ifs
    )
    sentences = "".join(f"<p>{escape(sentence)}</p>" for sentence in explanation.sentences)
    return (
        f"<h2>Device {explanation.device}: {escape(explanation.diagnosis)}</h2>{sentences}"
        f"<h3>Memory over the recording</h3>{_timeline(explanation)}"
        f"<h3>What if</h3><table>{rows}</table>"
        f"<h3>Details</h3><pre>{escape(explanation_text(explanation))}</pre>"
    )


def _timeline(explanation: Explanation) -> str:
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
    below = [0] * len(points)
    for index, name in enumerate(names):
        above = [low + sizes.get(name, 0) for low, (_, sizes) in zip(below, points, strict=True)]
        edge = [f"{x(p):.1f},{y(v):.1f}" for (p, _), v in zip(points, above, strict=True)]
        back = [f"{x(p):.1f},{y(v):.1f}" for (p, _), v in zip(points, below, strict=True)]
        color = _COLORS[index % len(_COLORS)]
        label = escape(f"{name} (most: {format_bytes(totals[name])})")
        parts_of_svg.append(
            f'<polygon points="{" ".join(edge + back[::-1])}" fill="{color}">'
            f"<title>{label}</title></polygon>"
        )
        row = _TOP + _HEIGHT + 56 + 22 * index
        parts_of_svg.append(
            f'<rect x="{_LEFT}" y="{row - 12}" width="14" height="14" fill="{color}"/>'
            f'<text x="{_LEFT + 20}" y="{row}">{label}</text>'
        )
        below = above
    if explanation.failure is not None:
        at = x(min(explanation.failure.position, last))
        parts_of_svg.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{_TOP + _HEIGHT}" stroke="#b00" '
            f'stroke-dasharray="4 3"/><text x="{at - 6:.1f}" y="{_TOP - 5}" text-anchor="end" '
            'fill="#b00">out of memory</text>'
        )
    height = _TOP + _HEIGHT + 60 + 22 * len(names)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" font-size="13" role="img" '
        f'aria-label="Bytes alive by category over the events">{"".join(parts_of_svg)}</svg>'
    )


def _axes(highest: int, last: int, plot: int) -> Iterator[str]:
    for quarter in range(5):
        height = _TOP + _HEIGHT * (1 - quarter / 4)
        yield (
            f'<line x1="{_LEFT}" x2="{_LEFT + plot}" y1="{height:.1f}" y2="{height:.1f}" '
            f'stroke="#ddd"/><text x="{_LEFT - 6}" y="{height + 4:.1f}" text-anchor="end">'
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
