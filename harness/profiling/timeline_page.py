"""A trace as a page: the labelled timeline, the layers in forward order, the largest blocks.

Plain SVG and HTML: no script, nothing loaded, readable in the dark and on a phone.
"""

import html
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from harness.schema.events import BEFORE_TRACE, CATEGORIES, Trace, totals
from harness.schema.units import format_bytes

COLOURS = {
    "parameter": "#0072B2",
    "gradient": "#E69F00",
    "optimizer_state": "#CC79A7",
    "input": "#56B4E9",
    "activation": "#009E73",
    "temporary": "#D55E00",
}
"""Of Okabe & Ito (2008), by category, in the order in which they are stacked."""

MOST_COLUMNS = 600
MOST_BLOCKS = 15

_WIDTH, _HEIGHT = 960, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 12, 58, 64

STYLE = """
:root { color-scheme: light dark;
  --paper: #fff; --ink: #1f2328; --quiet: #57606a; --rule: #d8dee4; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14181d; --ink: #e6e9ed; --quiet: #a5aeb8; --rule: #343b44; }
}
body { margin: 0 auto; max-width: 64rem; padding: 1.5rem 1rem;
  background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.chart, .table { overflow-x: auto; }
svg { display: block; width: 100%; min-width: 40rem; height: auto; }
caption { text-align: left; color: var(--quiet); }
table { border-collapse: collapse; font-size: .875rem; }
th, td { padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--rule);
  text-align: left; vertical-align: top; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.operator { overflow-wrap: anywhere; color: var(--quiet); }
"""


@dataclass(frozen=True, kw_only=True)
class Column:
    """What is alive after one event: the highest of the events that the column stands for."""

    order: int
    sizes: dict[str, int]

    @property
    def total(self) -> int:
        """Return all live bytes."""
        return sum(self.sizes.values())


def page(trace: Trace, title: str) -> str:
    """Return a self-contained HTML page of ``trace``."""
    peak = trace.categories_at_peak()
    made = ", ".join(f"{format_bytes(size)} {_words(name)}" for name, size in peak.items() if size)
    answer = f"Peak: {trace.peak_live_bytes:,} bytes ({format_bytes(trace.peak_live_bytes)}) in "
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            (
                '<meta http-equiv="Content-Security-Policy" '
                "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
            ),
            f'<title>{html.escape(title)}</title><link rel="icon" href="data:,">',
            f"<style>{STYLE}</style></head><body><main>",
            f"<h1>{html.escape(title)}</h1>",
            f"<p><strong>{answer}{trace.peak_phase}.</strong> It is made of {made}.</p>",
            '<div class="chart" role="region" aria-label="Timeline" tabindex="0">',
            svg_timeline(trace, title),
            "</div>",
            "<h2>Layers, in forward order</h2>",
            *_layers(trace),
            "<h2>Largest blocks at the peak</h2>",
            *_blocks(trace),
            "</main></body></html>",
            "",
        ]
    )


def svg_timeline(trace: Trace, title: str = "Live bytes", *, most: int = MOST_COLUMNS) -> str:
    """Return the live bytes by category as one SVG element with text to hover over.

    The axes are events and bytes; phases, steps and the peak are marked. What was there before
    the trace is a level from the beginning on, not a sequence of events. At most ``most``
    columns are drawn, each the highest of the events it stands for, so the peak is among them.
    """
    first = _first(trace)
    columns = list(_columns(trace, first, most))
    top = max((column.total for column in columns), default=0) or 1
    words = html.escape(f"{title}: live bytes by category; the peak is {top:,} bytes")
    return "\n".join(
        [
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
                f'role="img" font-family="sans-serif" font-size="12" fill="currentColor">'
            ),
            f"<title>{words}</title>",
            *_axis(top),
            *_areas(trace, columns, top),
            *_phases(trace, first),
            *_peak(trace, first, top),
            *_legend(),
            "</svg>",
        ]
    )


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
    """Return where an event lies; the level before the trace lies at 0."""
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
        for name, colour in COLOURS.items():
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
    lines += [f"{_words(name)}: {size:,}" for name, size in column.sizes.items() if size]
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
        for row, words in enumerate((phase, f"step {step}" if step else "")):
            if right - left > 6.5 * len(words):
                parts.append(
                    f'<text x="{(left + right) / 2:.1f}" y="{14 + 14 * row}" text-anchor="middle"'
                    f' font-weight="{400 if row else 700}">{html.escape(words)}</text>'
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
    for at, (name, colour) in enumerate(COLOURS.items()):
        x = _LEFT + at * 130
        parts.append(
            f'<rect x="{x}" y="{_HEIGHT - 22}" width="12" height="12" fill="{colour}"/>'
            f'<text x="{x + 18}" y="{_HEIGHT - 12}">{_words(name)}</text>'
        )
    return parts


def _words(name: str) -> str:
    return name.replace("_", " ")


def _layers(trace: Trace) -> list[str]:
    """Return what each layer holds at the peak, in the order of the forward pass."""
    seen = [event.module for event in trace.events if event.phase == "forward"]
    order = dict.fromkeys([*seen, *(event.module for event in trace.events)])
    alive = trace.alive_at_peak()
    held = {name: Counter[str]() for name in order}
    for block in alive:
        held[block.event.module][block.event.category] += block.event.size_bytes
    sums = totals(alive, "module")
    rows = []
    for name in order:
        if not sums.get(name):
            continue
        share = sums[name] / trace.peak_live_bytes
        sizes = [format_bytes(held[name][category]) for category in CATEGORIES]
        rows.append([name or "(network)", *sizes, format_bytes(sums[name]), f"{share:.1%}"])
    heads = ["layer", *map(_words, CATEGORIES), "at the peak", "share"]
    return _table("Bytes alive at the peak, by layer and category", heads, rows, texts=1)


def _blocks(trace: Trace) -> list[str]:
    rows = [
        [
            block.event.module or "(network)",
            _words(block.event.category),
            block.event.operator.replace("autograd::engine::evaluate_function: ", ""),
            f"{block.event.size_bytes:,}",
            format_bytes(block.event.size_bytes),
        ]
        for block in trace.alive_at_peak()[:MOST_BLOCKS]
    ]
    return _table(
        f"The {len(rows)} largest blocks alive at the peak",
        ["layer", "category", "allocated by", "bytes", ""],
        rows,
        texts=3,
    )


def _table(caption: str, heads: list[str], rows: list[list[str]], *, texts: int) -> list[str]:
    """Return a table; after the first ``texts`` columns come numbers."""

    def kind(at: int) -> str:
        return "" if at < texts else ' class="number"'

    head = "".join(
        f'<th scope="col"{kind(at)}>{html.escape(name)}</th>' for at, name in enumerate(heads)
    )
    body = []
    for row in rows:
        first, *rest = (html.escape(text) for text in row)
        cells = "".join(f"<td{kind(at)}>{text}</td>" for at, text in enumerate(rest, 1))
        body.append(f'<tr><th scope="row" class="operator">{first}</th>{cells}</tr>')
    label = html.escape(caption)
    return [
        f'<div class="table" role="region" aria-label="{label}" tabindex="0"><table>',
        f"<caption>{label}</caption><thead><tr>{head}</tr></thead><tbody>",
        *body,
        "</tbody></table></div>",
    ]
