"""Makes an HTML page without external files, for light and dark mode, phones and paper."""

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from string import Template

from harness.plots.category_colours import GREEN, VERMILION
from harness.schema.plain_text import printable
from harness.schema.units import format_bytes

_BAR = ";background:linear-gradient(to right,var(--edge,#8885) {0},transparent {0})"
"""CSS of the bar behind a percentage in a table."""
_FOLDER = files("harness.plots") / "page"


def self_contained_page(title: str, body: str, *, data: str | None = None) -> str:
    """Return an HTML page; ``body`` is HTML, and ``data`` is the JSON that the page's script draws.

    The page has a Content Security Policy, which blocks every other script in the page.
    """
    scripts, sources = "", "'none'"
    if data is not None:
        code = (_FOLDER / "memory.js").read_text(encoding="utf-8")
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        sources = f"'sha256-{digest}'"
        plain = data.replace("<", "\\u003c")
        scripts = (
            f'<script type="application/json" id="data">{plain}</script><script>{code}</script>'
        )
    parts = {"body": body, "scripts": scripts, "sources": sources}
    return printable(page_part("page", title=escape(title), **parts))


def page_part(name: str, **values: str) -> str:
    """Return the template ``name`` of a part of the page, with the HTML in ``values`` inserted."""
    return Template((_FOLDER / f"{name}.html").read_text(encoding="utf-8")).substitute(values)


def scrolling(label: str, content: str) -> str:
    """Return HTML that scrolls sideways; a shadow at an edge shows that more content follows."""
    return (
        f'<div class="scroll" role="region" aria-label="{escape(label)}" tabindex="0">'
        f"{content}</div>"
    )


def html_table(
    caption: str, heads: Sequence[str], rows: Iterable[Sequence[str | int | float]]
) -> str:
    """Return an HTML table; a header that begins with ">" marks a column of numbers.

    >>> page = html_table("two", ["name", ">bytes"], [["a & b", 1024]])
    >>> "a &amp; b" in page, "1,024" in page
    (True, True)
    """
    last = len(heads) - 1

    def cell(tag: str, at: int, value: str | float) -> str:
        words = escape(value if isinstance(value, str) else f"{value:,}").replace("  ", "&emsp;")
        scope = ' scope="col"' if tag == "th" else ""
        if heads[at].startswith(">") or not isinstance(value, str):
            bar = _BAR.format(words) if re.fullmatch(r"[\d.]+%", words) else ""
            return f'<{tag}{scope} class="number" style="text-align:right{bar}">{words}</{tag}>'
        if at == last:
            words = words.replace(".", ".<wbr>").replace("/", "/<wbr>")
        return f'<{tag}{scope} class="{"long" if at == last else "name"}">{words}</{tag}>'

    head = "".join(cell("th", at, text.removeprefix(">")) for at, text in enumerate(heads))
    named = f"<thead><tr>{head}</tr></thead>" if any(text.strip(">") for text in heads) else ""
    body = "".join(
        f"<tr>{''.join(cell('td', at, text) for at, text in enumerate(row))}</tr>\n" for row in rows
    )
    table = (
        f"<table>{f'<caption>{escape(caption)}</caption>' if caption else ''}{named}"
        f"<tbody>\n{body}</tbody></table>"
    )
    return printable(scrolling(caption or "table", table))


def bars(caption: str, rows: Iterable[tuple[str, int]], room: int) -> str:
    """Return an HTML table with a bar for each size, and with a line that marks ``room`` bytes."""
    sizes = list(rows)
    most = max(room, *(size for _, size in sizes))
    shown = "".join(
        f'<tr><td class="number">{format_bytes(size)}</td><td style="width:40%">'
        f'<svg viewBox="0 0 100 8" width="100%" height="18" preserveAspectRatio="none" role="img"'
        f' aria-label="{format_bytes(size)} of {format_bytes(room)}">'
        f'<rect width="{100 * size / most:.2f}" height="8" '
        f'fill="{GREEN if size <= room else VERMILION}"/>'
        f'<rect x="{100 * room / most - 0.4:.2f}" width=".4" height="8" fill="#b00020"/></svg>'
        f"</td><td>{escape(words)}</td></tr>"
        for words, size in sizes
    )
    return scrolling(caption, f"<table><caption>{escape(caption)}</caption>{shown}</table>")
