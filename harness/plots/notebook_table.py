"""Small HTML tables of objects of the public API, as notebooks show them."""

import html
from collections.abc import Iterable, Sequence

from harness.schema.plain_text import printable
from harness.schema.units import format_bytes


def notebook_table(
    caption: str, headings: Sequence[str], rows: Iterable[Sequence[str | int | float]]
) -> str:
    """Return an HTML table; numbers are aligned to the right.

    >>> notebook_table("two", ["name", "bytes"], [["a & b", 1024]])[:61]
    '<table><caption>two</caption><tr><th>name</th><th>bytes</th><'
    """
    head = "".join(f"<th>{html.escape(heading)}</th>" for heading in headings)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    title = html.escape(caption)
    return printable(f"<table><caption>{title}</caption><tr>{head}</tr>{body}</table>")


def sizes_table(caption: str, sizes: Iterable[tuple[str, int]]) -> str:
    """Return an HTML table of sizes, each in bytes and in a unit for people."""
    rows = [(name, size, format_bytes(size)) for name, size in sizes]
    return notebook_table(caption, ("metric", "bytes", ""), rows)


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return f"<td>{html.escape(value).replace('  ', '&emsp;')}</td>"
    return f"<td style='text-align:right'>{value:,}</td>"
