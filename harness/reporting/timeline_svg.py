"""A trace as one SVG element: live bytes by category, event by event, with text to hover over."""

import html
from collections.abc import Iterator
from dataclasses import dataclass

from harness.schema.category_colours import CATEGORY_COLOURS
from harness.schema.events import BEFORE_TRACE, CATEGORIES, Trace
from harness.schema.plain_text import printable
from harness.schema.units import format_bytes

MOST_COLUMNS = 600

_WIDTH, _HEIGHT = 960, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 12, 58, 64


@dataclass(frozen=True, kw_only=True)
class Column:
    """Bytes alive after one event: the highest of those that the column represents."""

    order: int
    sizes: dict[str, int]

    @property
    def total(self) -> int:
        """Return all live bytes."""
        return sum(self.sizes.values())


def svg_timeline(
    trace: Trace, title: str = "Live bytes", *, most: int = MOST_COLUMNS, has_legend: bool = True
) -> str:
    """Return the live bytes by category as one SVG element with text to hover over.

    The axes are events and bytes; phases, steps and the peak are marked. What was there before
    the trace is a level from the beginning on, not a sequence of events. At most ``most``
    columns are drawn, each the highest of the events it stands for, so the peak is among them.
    """
    first = _first(trace)
    columns = list(_columns(trace, first, most))
    top = max((column.total for column in columns), default=0) or 1
    height = _HEIGHT if has_legend else _HEIGHT - 34
    label = html.escape(f"{title}: live bytes by category; the peak is {top:,} bytes")
    drawn = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
            f'role="img" font-family="sans-serif" font-size="12" fill="currentColor">'
        ),
        f"<title>{label}</title>",
        *_axis(top),
        *_areas(trace, columns, top),
        *_phases(trace, first),
        *_peak(trace, first, top),
        *(_legend() if has_legend else ()),
        "</svg>",
    ]
    return printable("\n".join(drawn))


def _first(trace: Trace) -> int:
    """Return the number of the first event of the trace itself."""
    return next(
        (at for at, event in enumerate(trace.events) if event.operator != BEFORE_TRACE),
        len(trace.events),
    )


def _columns(trace: Trace, first: int, most: int) -> Iterator[Column]:
    """Yield the level before the trace, then the highest event of each run of events."""
    count = len(trace.events) - first
    runs = max(min(count, most), 1)
    highest: dict[int, int] = {}
    for order in range(first, len(trace.events)):
        run = (order - first) * runs // count
        best = highest.get(run)
        if best is None or trace.live_bytes[order] > trace.live_bytes[best]:
            highest[run] = order
    wanted = {first - 1, *highest.values()}
    live = dict.fromkeys(CATEGORIES, 0)
    live["temporary"] += trace.initial_bytes
    if first == 0:
        yield Column(order=-1, sizes=dict(live))
    for order, event in enumerate(trace.events):
        live[event.category] += event.size_bytes
        if order in wanted:
            yield Column(order=order, sizes=dict(live))


def _x(trace: Trace, first: int, order: float) -> float:
    """Return the horizontal position of an event; the level before the trace is at 0."""
    count = max(len(trace.events) - first, 1)
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (order - first + 1) / (count + 1)


def _y(size: float, top: int) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * size / top


def _axis(top: int) -> list[str]:
    step = 1
    while step * 5 < top:
        step *= 2
    parts = []
    for size in range(0, top + 1, step):
        y = _y(size, top)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
            'stroke="currentColor" stroke-opacity=".15"/>'
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{format_bytes(size)}</text>'
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    label = f'<text x="{middle}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">'
    parts.append(f"{label}allocator events, from what was there before the trace</text>")
    return parts


def _areas(trace: Trace, columns: list[Column], top: int) -> list[str]:
    first = _first(trace)
    parts = []
    for at, column in enumerate(columns):
        x = _x(trace, first, column.order)
        later = columns[at + 1].order if at + 1 < len(columns) else len(trace.events)
        wide = _x(trace, first, later) - x + 0.3  # no seams
        parts.append(
            f'<g shape-rendering="crispEdges"><title>{html.escape(_hover(trace, column))}</title>'
        )
        base = 0
        for name, colour in CATEGORY_COLOURS.items():
            size = column.sizes[name]
            if size > 0:
                y, low = _y(base + size, top), _y(base, top)
                parts.append(
                    f'<rect x="{x:.2f}" y="{y:.2f}" width="{wide:.2f}" '
                    f'height="{low - y:.2f}" fill="{colour}"/>'
                )
            base += size
        parts.append("</g>")
    return parts


def _hover(trace: Trace, column: Column) -> str:
    lines = [f"{column.total:,} bytes"]
    if column.order < _first(trace):
        lines.append("before the trace")
    else:
        event = trace.events[column.order]
        lines[0] = f"event {column.order}: {lines[0]}"
        lines.append(f"step {event.step}, {event.phase}, {event.module or '(network)'}")
        lines.append(f"{event.operator} {event.size_bytes:+,}")
    lines += [f"{words(name)}: {size:,}" for name, size in column.sizes.items() if size]
    return "\n".join(lines)


def _phases(trace: Trace, first: int) -> list[str]:
    """Mark where each phase begins, and name it where the name has room."""
    starts = [
        order
        for order in range(first, len(trace.events))
        if order == first or _phase(trace, order) != _phase(trace, order - 1)
    ]
    parts = []
    for start, stop in zip(starts, [*starts[1:], len(trace.events)], strict=True):
        left, right = _x(trace, first, start), _x(trace, first, stop)
        parts.append(
            f'<line x1="{left:.1f}" x2="{left:.1f}" y1="{_TOP - 24}" y2="{_HEIGHT - _BOTTOM}" '
            'stroke="currentColor" stroke-dasharray="3 3" stroke-opacity=".6"/>'
        )
        step, phase = _phase(trace, start)
        if stop == len(trace.events) and right - left <= 6.5 * len(phase):
            parts.append(
                f'<text x="{_WIDTH - _RIGHT}" y="42" text-anchor="end" font-weight="700">'
                f"{html.escape(phase)}</text>"
            )
        for row, text in enumerate((phase, f"step {step}" if step else "")):
            if right - left > 6.5 * len(text):
                parts.append(
                    f'<text x="{(left + right) / 2:.1f}" y="{14 + 14 * row}" text-anchor="middle"'
                    f' font-weight="{400 if row else 700}">{html.escape(text)}</text>'
                )
    return parts


def _phase(trace: Trace, order: int) -> tuple[int, str]:
    event = trace.events[order]
    return event.step, event.phase


def _peak(trace: Trace, first: int, top: int) -> list[str]:
    size = trace.peak_live_bytes
    x, y = _x(trace, first, trace.peak_order), _y(size, top)
    anchor, shift = ("end", -8) if x > _WIDTH / 2 else ("start", 8)
    return [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>',
        (
            f'<text x="{x + shift:.1f}" y="{y - 8:.1f}" text-anchor="{anchor}" font-weight="bold">'
            f"peak {format_bytes(size)}</text>"
        ),
    ]


def _legend() -> list[str]:
    parts = []
    for at, (name, colour) in enumerate(CATEGORY_COLOURS.items()):
        x = _LEFT + at * 130
        parts.append(
            f'<rect x="{x}" y="{_HEIGHT - 22}" width="12" height="12" fill="{colour}"/>'
            f'<text x="{x + 18}" y="{_HEIGHT - 12}">{words(name)}</text>'
        )
    return parts


def words(name: str) -> str:
    """Return the name of a category in words."""
    return name.replace("_", " ")
