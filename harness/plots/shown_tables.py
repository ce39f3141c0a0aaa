"""Tables that a terminal, a page and a notebook show alike: made once, with their rows as text."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.plots.self_contained_page import html_table
from harness.schema.units import format_bytes


@dataclass(frozen=True)
class ShownTable:
    """Rows of text below their heads; a head that begins with ">" is of numbers."""

    title: str
    heads: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    spare: str = ""

    @property
    def html(self) -> str:
        """The table on a page or in a notebook; empty without rows.

        On a phone sizes and name stay in view: one or two sizes, or the last of more, come first.
        """
        numbers = [at for at, head in enumerate(self.heads) if head.startswith(">")]
        front = numbers if len(numbers) < 3 else numbers[-1:]
        order = [*front, *(at for at in range(len(self.heads)) if at not in front)]
        heads, *rows = ([row[at] for at in order] for row in (self.heads, *self.rows))
        return html_table(self.title, heads, rows) if rows else ""


def sizes_table(title: str, sizes: Iterable[tuple[str, int]], head: str = "metric") -> ShownTable:
    """Return a table of sizes, each in bytes and in a unit for people."""
    rows = [(name, f"{size:,}", format_bytes(size)) for name, size in sizes]
    return ShownTable(title, (head, ">bytes", ">size"), rows)
