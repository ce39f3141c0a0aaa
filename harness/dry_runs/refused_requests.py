"""A request that the allocator refused, seen before the error unwinds the stack."""

import sys
import traceback

from harness.dry_runs.dry_run_report import Frame, OutOfMemory
from harness.dry_runs.own_code import is_own, users_frame


def refused_request(device: int, size: int, free: int) -> OutOfMemory:
    """Return what is known at the moment of a refusal; PyTorch has been imported."""
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
