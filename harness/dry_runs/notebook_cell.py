"""A cell of a notebook that ran on a pretended GPU."""

import json
from pathlib import Path
from typing import Literal

from msgspec import Struct


class NotebookCell(Struct, frozen=True, kw_only=True):
    """One cell on a pretended GPU.

    Attributes:
        number: its number among the cells of code, from 1.
        text: its first line.
        ended: outcome of the cell.
        requested_peak_bytes: most bytes requested during the cell; None if it allocated nothing.
        alive_bytes: requested bytes that were alive after the cell, on all GPUs.
    """

    number: int
    text: str
    ended: Literal["ok", "error"]
    requested_peak_bytes: int | None = None
    alive_bytes: int = 0


class Freed(Struct, frozen=True):
    """A reference that a notebook still holds at its end, and the bytes that dropping it frees.

    The preceding references of a list are dropped first.
    """

    what: str
    requested_bytes: int


def code_cells(path: Path) -> list[str]:
    """Return the source of each non-empty cell of code; empty if the file is not a notebook."""
    try:
        cells = json.loads(path.read_bytes())["cells"]
        sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, TypeError, KeyError):
        return []
    return [source for source in sources if source.strip()]
