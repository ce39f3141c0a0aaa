"""The task of a Dask worker, which measures one cell in separate child processes.

The task uses only the worker's name from Dask. Requests and answers are JSON in bytes, so that only
the name of the task's function is pickled.
"""

import threading
from typing import Any

import msgspec
from distributed import get_worker
from msgspec import Struct
from msgspec.structs import replace

from harness.processes.launcher import LaunchError
from harness.schema.errors import HarnessError
from harness.schema.record import Record
from harness.sweeps.executors.local import Slot
from harness.sweeps.runner import Cell
from harness.version import __version__


class CellAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The result of a cell, or the reason why it has no record."""

    record: Record | None = None
    events: list[list[Any]] | None = None
    mistake: str | None = None
    """Problem that the user has to fix, such as images that this host lacks."""
    launch_error: str | None = None
    """Reason why this host cannot start a process."""
    worker: str | None = None
    """The name of the Dask worker that answers."""
    harness: str = "an unknown version"
    """Version of the worker's harness."""


_of_thread = threading.local()


def measure_cell(request: bytes) -> bytes:
    """Measure the cell of ``request`` (JSON: cell, attempt, jobs); return a ``CellAnswer``."""
    cell, attempt, jobs = msgspec.json.decode(request, type=tuple[Cell, int, int])
    if not hasattr(_of_thread, "slot"):
        _of_thread.slot = Slot()
    slot: Slot = _of_thread.slot
    said = CellAnswer(harness=__version__, worker=str(get_worker().name))
    try:
        record, trace = slot.measure(cell, attempt, "dask", jobs=jobs, disturbed=True)
    except LaunchError as error:
        said = replace(said, launch_error=str(error))
    except HarnessError as error:
        said = replace(said, mistake=str(error))
    else:
        events = [list(event) for event in trace.events] if trace is not None else None
        said = replace(said, record=record, events=events)
    return msgspec.json.encode(said)
