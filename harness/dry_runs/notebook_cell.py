"""Data types for notebook cells that ran on a pretended GPU."""

import json
from pathlib import Path
from typing import Literal

from msgspec import Struct


class NotebookCell(Struct, frozen=True, kw_only=True):
    """One notebook cell that ran on a pretended GPU.

    Attributes:
        number: number of the cell among the code cells, counted from 1.
        text: first line of the cell.
        ended: outcome of the cell.
        requested_peak_bytes: peak of requested bytes during the cell; None without allocations.
        alive_bytes: requested bytes of the live blocks on all GPUs after the cell.
    """

    number: int
    text: str
    ended: Literal["ok", "error"]
    requested_peak_bytes: int | None = None
    alive_bytes: int = 0


class Freed(Struct, frozen=True):
    """A reference that is left at a notebook's end, and the bytes that deleting it frees.

    A report lists the references in the order of their deletion.
    """

    what: str
    requested_bytes: int


def code_cells(path: Path) -> list[str]:
    """Return the sources of the non-empty code cells; an empty list without a notebook."""
    try:
        cells = json.loads(path.read_bytes())["cells"]
        sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, TypeError, KeyError):
        return []
    return [source for source in sources if source.strip()]
