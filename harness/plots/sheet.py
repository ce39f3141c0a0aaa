"""A ``Sheet`` is a result to be shown on a terminal, on an HTML page or in a notebook.

``sheet_text`` converts a sheet to text for a terminal. ``memory_page`` converts a sheet to an HTML
page or to HTML for a notebook.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from harness.plots.timeline import Timeline
from harness.schema.plain_text import printable
from harness.schema.units import format_bytes

_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"


@dataclass(frozen=True, kw_only=True)
class ShownTable:
    """A table of text; a header that begins with ">" marks a column of numbers.

    Attributes:
        title: line above the table; on a page, the caption of the table.
        heads: header of each column; if all headers are empty, the header row is left out.
        rows: text of each cell, by row.
        indent: number of spaces before each row on a terminal.
        spare: header of the column that is left out on a narrow terminal.
    """

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    indent: int = 0
    spare: str = ""


@dataclass(frozen=True)
class Bars:
    """Sizes to draw as bars, with the available memory; the bars are not shown on a terminal."""

    title: str
    sizes: Sequence[tuple[str, int]]
    room_bytes: int


@dataclass(frozen=True)
class Code:
    """Lines of code or commands for the user to copy."""

    text: str


@dataclass(frozen=True)
class Fold:
    """Parts that a page shows after a click on the title; a terminal does not show them."""

    title: str
    parts: "Sequence[Part]"


class Curve(NamedTuple):
    """Reserved bytes of each tried batch on a GPU, with the available memory of the GPU.

    ``batch`` is the requested batch; ``largest`` is the largest batch that fits.
    """

    name: str
    room: int
    points: Sequence[tuple[int, int]]
    batch: int | None
    largest: int | None
    words: str


Part = str | ShownTable | Bars | Code | Fold
"""Part of a sheet; a string is a line of text, or a heading if it begins with "# "."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A result for people to read, with lines, tables and notes.

    Attributes:
        title: title of the page.
        verdict: lines with the main result.
        parts: lines and tables below the main result.
        notes: limitations of the numbers, in sentences.
        timeline: function that returns the timeline that a page draws.
        curve: reserved bytes by batch size, drawn on a page.
        commands: suggested next commands, which only a page shows.
    """

    title: str
    verdict: Sequence[str]
    parts: Sequence[Part] = ()
    notes: Sequence[str] = ()
    timeline: Callable[[], Timeline] | None = None
    curve: Curve | None = None
    commands: Sequence[str] = ()


def sizes_table(title: str, sizes: Iterable[tuple[str, int]], head: str = "metric") -> ShownTable:
    """Return a table with each size in bytes and in a readable unit."""
    rows = [(name, f"{size:,}", format_bytes(size)) for name, size in sizes]
    return ShownTable(title=title, heads=(head, ">bytes", ">size"), rows=rows)


def sheet_text(sheet: Sheet, *, bold: bool = False, width: int | None = None) -> str:
    """Return the sheet as lines for a terminal; ``bold`` prints the main result in bold.

    Lines are not wrapped, so that ``grep`` finds names. Control characters are escaped.

    >>> table = ShownTable(heads=("layer", ">saved"), rows=[("0", "4 KiB"), ("10", "512 B")])
    >>> print(sheet_text(Sheet(title="", verdict=["fits"], parts=[table], notes=["why"])))
    fits
    layer  saved
    0      4 KiB
    10     512 B
    note: why
    """
    answer = [*map(_one_line, sheet.verdict)]
    if bold:
        answer = [f"{_BOLD}{line}{_PLAIN}" for line in answer]
    rest = [line for part in sheet.parts for line in _lines(part, width)]
    rest += [f"note: {note}" for note in sheet.notes]
    return "\n".join([*answer, *map(_one_line, rest)])


def _one_line(text: str) -> str:
    return printable(text.replace("\n", "\\n"))


def _lines(part: Part, width: int | None) -> Iterator[str]:
    match part:
        case str():
            yield part.removeprefix("# ")
        case ShownTable():
            yield from _aligned(part, width)
        case Code():
            yield from (f"    {line}" for line in part.text.splitlines())


def _aligned(table: ShownTable, width: int | None) -> Iterator[str]:
    """Yield the rows of a table as aligned lines, with numbers aligned to the right."""
    if not table.rows:
        return
    heads = [head.removeprefix(">") for head in table.heads]
    rows = [heads, *table.rows] if any(heads) else table.rows
    columns = [
        (head, cells, max(map(len, cells)))
        for head, cells in zip(table.heads, zip(*rows, strict=True), strict=True)
    ]
    if width is not None and table.indent + sum(most + 2 for *_, most in columns) - 2 > width:
        columns = [column for column in columns if column[0] != (table.spare or None)]
    if table.title:
        yield f"{' ' * max(0, table.indent - 2)}{table.title}:"
    for row in range(len(rows)):
        cells = (
            cells[row].rjust(most) if head.startswith(">") else cells[row].ljust(most)
            for head, cells, most in columns
        )
        yield (" " * table.indent + "  ".join(cells)).rstrip()
