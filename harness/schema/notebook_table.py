"""Small HTML tables and pictures of objects of the public API, as notebooks show them."""

import html
import pkgutil
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from harness.schema.plain_text import printable
from harness.schema.units import format_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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


def picture(name: str, *arguments: object, **named: object) -> "Figure":
    """Return what a function of ``harness.plots.public_objects``, a layer above, draws."""
    figure: Figure = pkgutil.resolve_name(f"harness.plots.public_objects:{name}")(
        *arguments, **named
    )
    return figure
