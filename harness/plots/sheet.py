"""An answer as people read it: made once, shown alike on a terminal, a page and in a notebook.

``sheet_text`` is the terminal's; ``memory_page`` has the page's and the notebook's.
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
    """Rows of text below their heads; a head that begins with ">" is of numbers.

    Attributes:
        title: the line above the table; the caption on a page.
        heads: the head of each column; without words in any of them they are left out.
        rows: the cells.
        indent: spaces before a row on a terminal.
        spare: head of the column that a narrow terminal leaves out.
    """

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    indent: int = 0
    spare: str = ""


@dataclass(frozen=True)
class Bars:
    """Sizes with their names, and the room for them, which a page marks; not on a terminal."""

    title: str
    sizes: Sequence[tuple[str, int]]
    room_bytes: int


@dataclass(frozen=True)
class Code:
    """Lines to copy."""

    text: str


@dataclass(frozen=True)
class Fold:
    """Parts that a page shows once its title is clicked, and a terminal does not."""

    title: str
    parts: "Sequence[Part]"


class Curve(NamedTuple):
    """Reserved bytes over the batches that were tried on a GPU, and the room on it.

    ``batch`` was asked; ``largest`` is the largest batch that fits, and ``words`` say so.
    """

    name: str
    room: int
    points: Sequence[tuple[int, int]]
    batch: int | None
    largest: int | None
    words: str


Part = str | ShownTable | Bars | Code | Fold
"""A string is a line; one that begins with "# " is a heading."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """The answer first, then what it consists of, then the notes.

    Attributes:
        title: title of the page.
        verdict: the answer, a line each.
        parts: lines and tables below it.
        notes: facts that you must know to use the numbers.
        timeline: returns the blocks of a step or a recording, which a page draws.
        curve: reserved bytes over the batch, which a page draws.
        commands: what to type next; on a page only.
    """

    title: str
    verdict: Sequence[str]
    parts: Sequence[Part] = ()
    notes: Sequence[str] = ()
    timeline: Callable[[], Timeline] | None = None
    curve: Curve | None = None
    commands: Sequence[str] = ()


def sizes_table(title: str, sizes: Iterable[tuple[str, int]], head: str = "metric") -> ShownTable:
    """Return a table of sizes, each in bytes and in a unit for people."""
    rows = [(name, f"{size:,}", format_bytes(size)) for name, size in sizes]
    return ShownTable(title=title, heads=(head, ">bytes", ">size"), rows=rows)


def sheet_text(sheet: Sheet, *, bold: bool = False, width: int | None = None) -> str:
    """Return the sheet as lines for a terminal, its answer in bold if that is asked.

    No line is broken, so that ``grep`` finds a name; no text in it can command the terminal.

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
    """Yield the rows in columns, the numbers to the right; nothing without rows."""
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
