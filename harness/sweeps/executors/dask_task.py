"""Task of a Dask worker, which measures one cell in separate child processes.

Requests and results are JSON bytes, so Dask pickles only the name of the task's function.
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
    """The result of a cell, or the reason why the cell has no record."""

    record: Record | None = None
    events: list[list[Any]] | None = None
    mistake: str | None = None
    """Problem that the user has to fix, such as missing images on this host."""
    launch_error: str | None = None
    """Reason why this host cannot start a process."""
    worker: str | None = None
    """Name of the Dask worker that returned this object."""
    harness: str = "an unknown version"
    """Version of the harness on the worker."""


_of_thread = threading.local()


def measure_cell(request: bytes) -> bytes:
    """Measure the cell in ``request`` (JSON: cell, attempt, jobs); return ``CellAnswer`` JSON."""
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
