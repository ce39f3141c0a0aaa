"""Converts a ``Sheet`` to an HTML page, or to HTML for a notebook.

The script ``page/memory.js`` draws the figures of a page from JSON data. The page contains the
script and the data, and loads no other file.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from harness.plots.self_contained_page import bars, html_table, page_part, self_contained_page
from harness.plots.sheet import Bars, Code, Fold, Part, Sheet, ShownTable
from harness.plots.timeline import Timeline
from harness.schema.plain_text import printable
from harness.schema.units import format_bytes


def sheet_page(sheet: Sheet) -> str:
    """Return an HTML page with the result, the figures, the next commands and the other parts."""
    parts, data = [_answer(sheet)], dict[str, Any]()
    timeline = None if sheet.timeline is None else sheet.timeline()
    if timeline is not None and timeline.blocks:
        data["timeline"] = timeline.as_data()
        parts += [_timeline_html(timeline)] * (len(timeline.events) > 1)
        parts.append(_treemap_html(timeline))
    elif timeline is not None:
        parts.append("<p>Nothing was allocated.</p>")
    if sheet.curve is not None:
        data["curve"] = sheet.curve._asdict()
        parts.append(page_part("curve", words=escape(sheet.curve.words)))
    if sheet.commands:
        lines = "".join(f"<p><code>{escape(line)}</code></p>" for line in sheet.commands)
        parts.append(f'<section class="next"><h2>Next</h2>{lines}</section>')
    script = json.dumps(data, separators=(",", ":"))
    body = "\n".join([*parts, *_parts(sheet.parts), *_notes(sheet)])
    return self_contained_page(sheet.title, body, data=script)


def sheet_html(sheet: Sheet) -> str:
    """Return HTML of the sheet for a notebook, without figures and with collapsed notes."""
    notes = "".join(_notes(sheet))
    folded = [f"<details><summary>Notes</summary>{notes}</details>"] * bool(notes)
    return printable("\n".join([_answer(sheet), *_parts(sheet.parts), *folded]))


def _answer(sheet: Sheet) -> str:
    return f"<p>{'<br>'.join(f'<strong>{escape(line)}</strong>' for line in sheet.verdict)}</p>"


def _notes(sheet: Sheet) -> Iterator[str]:
    for note in sheet.notes:
        yield f'<p class="quiet">Note: {escape(note)}</p>'


def _parts(parts: Sequence[Part]) -> Iterator[str]:
    """Yield the parts of a sheet as HTML; consecutive lines of text become one paragraph."""
    lines: list[str] = []
    for part in (*parts, None):
        if isinstance(part, str) and part.strip() and not part.startswith("# "):
            lines.append(escape(part))
            continue
        if lines:
            yield f'<p class="lines">{"<br>".join(lines)}</p>'
            lines = []
        match part:
            case str() if part.strip():
                yield f"<h2>{escape(part.removeprefix('# ').rstrip(':'))}</h2>"
            case ShownTable() if part.rows:
                yield _table(part)
            case Bars():
                yield bars(part.title, part.sizes, part.room_bytes)
            case Code():
                yield f"<pre>{escape(part.text)}</pre>"
            case Fold():
                inner = "\n".join(_parts(part.parts))
                yield f"<details><summary>{escape(part.title)}</summary>{inner}</details>"


def _table(table: ShownTable) -> str:
    """Return an HTML table in which the sizes and the name stay visible on a phone.

    The columns with sizes come first. If there are three or more columns with sizes, only the last
    size column comes first.
    """
    numbers = [at for at, head in enumerate(table.heads) if head.startswith(">")]
    front = numbers if len(numbers) < 3 else numbers[-1:]
    order = [*front, *(at for at in range(len(table.heads)) if at not in front)]
    heads, *rows = ([row[at] for at in order] for row in (table.heads, *table.rows))
    return html_table(table.title, heads, rows)


def _timeline_html(timeline: Timeline) -> str:
    axes = ["phases"] * (len(timeline.phases) > 1) + ["events", "bytes"]
    axes += ["time"] * (timeline.times_us is not None)
    return page_part("timeline", options="".join(f"<option>{name}</option>" for name in axes))


def _treemap_html(timeline: Timeline) -> str:
    words = "Colours are those of the timeline. A click marks a layer's blocks in it."
    if len(timeline.events) == 1:
        sums = Counter[str]()
        for block, _ in timeline.blocks:
            sums[block.category] += block.size_bytes
        named = (f"{name.replace('_', ' ')}: {format_bytes(size)}" for name, size in sums.items())
        words = "; ".join(named)
    return page_part("treemap", heading=escape(timeline.heading), words=escape(words))
