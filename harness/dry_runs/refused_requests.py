"""Records facts about a failed allocation before the error unwinds the stack."""

import sys
import traceback

from harness.dry_runs.dry_run_report import Frame, OutOfMemory
from harness.dry_runs.own_code import is_own, users_frame
from harness.schema.library_files import is_library


def ran_while_handled() -> str | None:
    """Return a note if the script runs a step inside an ``except`` block after memory ran out."""
    error = sys.exc_info()[1]
    if error is None or not isinstance(error, sys.modules["torch"].OutOfMemoryError):
        return None
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not is_own(f.filename)]
    users = [f for f in frames if not is_library(f.filename)] or frames
    place = f"{users[-1].filename}:{users[-1].lineno}" if users else "an unknown line"
    return (
        f"a step ran inside the except block of the error at {place}: until the block ends, its"
        " traceback keeps the tensors of the step that failed; try again after it"
    )


def refused_request(device: int, size: int, free: int) -> OutOfMemory:
    """For an allocation that just failed, return its size, its stack and the allocator's state."""
    cuda = sys.modules["torch"].cuda
    return OutOfMemory(
        device=device,
        requested_bytes=size,
        allocated_bytes=cuda.memory_allocated(device),
        reserved_bytes=cuda.memory_reserved(device),
        free_bytes=free,
        stack=tuple(
            Frame(file=f.filename, line=f.lineno or 0, function=f.name, text=f.line or "")
            for f in reversed(traceback.extract_stack(users_frame()))
            if not is_own(f.filename)
        ),
    )
