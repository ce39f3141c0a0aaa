"""A trace as a page: the labelled timeline, the layers in forward order, the largest blocks."""

import html
from collections import Counter

from harness.reporting.timeline_svg import svg_timeline, words
from harness.schema.events import CATEGORIES, Trace, totals
from harness.schema.self_contained_page import self_contained_page
from harness.schema.units import format_bytes

MOST_BLOCKS = 15

_STYLE = """
.chart, .table { overflow-x: auto; }
svg { display: block; width: 100%; min-width: 40rem; height: auto; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.operator { overflow-wrap: anywhere; color: var(--quiet); }
"""


def page(trace: Trace, title: str) -> str:
    """Return a self-contained HTML page of ``trace``."""
    peak = trace.categories_at_peak()
    made = ", ".join(f"{format_bytes(size)} {words(name)}" for name, size in peak.items() if size)
    answer = f"Peak: {trace.peak_live_bytes:,} bytes ({format_bytes(trace.peak_live_bytes)}) in "
    body = [
        f"<p><strong>{answer}{trace.peak_phase}.</strong> It is made of {made}.</p>",
        '<div class="chart" role="region" aria-label="Timeline" tabindex="0">',
        svg_timeline(trace, title),
        "</div>",
        "<h2>Layers, in forward order</h2>",
        *_layers(trace),
        "<h2>Largest blocks at the peak</h2>",
        *_blocks(trace),
    ]
    return self_contained_page(title, "\n".join(body), style=_STYLE)


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
    heads = ["layer", *map(words, CATEGORIES), "at the peak", "share"]
    return _table("Bytes alive at the peak, by layer and category", heads, rows, texts=1)


def _blocks(trace: Trace) -> list[str]:
    rows = [
        [
            block.event.module or "(network)",
            words(block.event.category),
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
