"""Data types for notebook cells that ran on a pretended GPU."""

import json
from pathlib import Path
from typing import Literal

from msgspec import Struct

from harness.dry_runs.value_answers import DryRunError


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
    """Return the sources of the non-empty code cells; raise DryRunError if it is not Python's."""
    try:
        notebook = json.loads(path.read_bytes())
        facts = notebook.get("metadata", {})
        kernel = facts.get("kernelspec", {}).get("language")
        language = str(facts.get("language_info", {}).get("name") or kernel or "python")
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        sources = [source for cell in cells if (source := "".join(cell["source"])).strip()]
        problem = "" if sources else "has no cells of code"
        if "python" not in language.lower():
            problem = f"is a notebook of {language[:40]!r}"
    except (ValueError, RecursionError) as error:
        problem = f"is not JSON ({error})"
    except (TypeError, KeyError, AttributeError):
        problem = "has no list of Jupyter's cells"
    if problem:
        raise DryRunError(f"{path} {problem}; give a notebook of Python code in Jupyter's format 4")
    return sources
