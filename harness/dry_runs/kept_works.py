"""When PyTorch's watchdog finds that collectives are complete, so that their tensors can be freed.

It looks ten times a second, and a work of ``ProcessGroupNCCL`` keeps its tensors until the first
collective after that. Here a step takes another time than on a GPU, so the watchdog is let in
(``stub/cuda/nccl.c``) at the end of each optimizer step, and nowhere else.
"""

import ctypes
import datetime
import time
from pathlib import Path
from typing import Final

_MOST_SECONDS = 0.5
_LOOK_SECONDS = 0.01
_WATCHDOG = "pt_nccl_watchdg\n"
_PART_OF_TIMEOUT = 4
_hold: Final[list[int]] = []


def hold_works(timeout: datetime.timedelta) -> None:
    """Hide complete works from the watchdog, for less time than they need to time out."""
    _hold.append(int(timeout.total_seconds()) // _PART_OF_TIMEOUT)
    ctypes.CDLL(None).pretend_hold_works(min(_hold))


def release_works() -> None:
    """Let the watchdog look, after an optimizer step, if there were collectives."""
    stub = ctypes.CDLL(None)
    if not stub.pretend_exchanged() or not _is_watched():
        return
    before, until = stub.pretend_works_found(), time.monotonic() + _MOST_SECONDS
    stub.pretend_hold_works(0)
    while stub.pretend_works_found() == before and time.monotonic() < until:
        time.sleep(_LOOK_SECONDS)
    time.sleep(_LOOK_SECONDS)
    stub.pretend_hold_works(min(_hold))


def _is_watched() -> bool:
    threads = Path("/proc/self/task").glob("*/comm")
    return any(thread.read_text() == _WATCHDOG for thread in threads)
