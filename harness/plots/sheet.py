"""A sheet, the readable form of an answer for a terminal, a page and a notebook.

``sheet_text`` prints it on a terminal; ``memory_page`` makes the page and the notebook's HTML.
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
    """Rows of text below their heads; a head that begins with ">" marks a column of numbers.

    Attributes:
        title: the line above the table; the caption on a page.
        heads: the head of each column; the heads are left out if all are empty.
        rows: the cells.
        indent: spaces before a row on a terminal.
        spare: head of the column that is left out on a narrow terminal.
    """

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    indent: int = 0
    spare: str = ""


@dataclass(frozen=True)
class Bars:
    """Sizes with their names, and the available memory; a page draws them, a terminal does not."""

    title: str
    sizes: Sequence[tuple[str, int]]
    room_bytes: int


@dataclass(frozen=True)
class Code:
    """Lines to copy."""

    text: str


@dataclass(frozen=True)
class Fold:
    """Parts that a page shows after a click on the title; a terminal does not show them."""

    title: str
    parts: "Sequence[Part]"


class Curve(NamedTuple):
    """Reserved bytes over the batches that were tried on a GPU, and the GPU's available memory.

    ``batch`` is the requested batch; ``largest`` is the largest that fits, as ``words`` state.
    """

    name: str
    room: int
    points: Sequence[tuple[int, int]]
    batch: int | None
    largest: int | None
    words: str


Part = str | ShownTable | Bars | Code | Fold
"""Part of a sheet; a string is a line, and a string that begins with "# " is a heading."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """An answer, followed by its parts and notes.

    Attributes:
        title: title of the page.
        verdict: the answer, as lines.
        parts: lines and tables below it.
        notes: facts that limit the use of the numbers.
        timeline: returns the blocks of a step or a recording, which a page draws.
        curve: reserved bytes over the batch, which a page draws.
        commands: the next commands to type; on a page only.
    """

    title: str
    verdict: Sequence[str]
    parts: Sequence[Part] = ()
    notes: Sequence[str] = ()
    timeline: Callable[[], Timeline] | None = None
    curve: Curve | None = None
    commands: Sequence[str] = ()


def sizes_table(title: str, sizes: Iterable[tuple[str, int]], head: str = "metric") -> ShownTable:
    """Return a table of sizes, each in bytes and in a readable unit."""
    rows = [(name, f"{size:,}", format_bytes(size)) for name, size in sizes]
    return ShownTable(title=title, heads=(head, ">bytes", ">size"), rows=rows)


def sheet_text(sheet: Sheet, *, bold: bool = False, width: int | None = None) -> str:
    """Return the sheet as lines for a terminal, with the answer in bold if requested.

    Lines are not broken, so that ``grep`` finds a name. Text cannot send commands to the terminal.

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
    """Yield the rows in columns, with numbers to the right."""
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
