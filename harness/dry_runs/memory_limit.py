"""Changes the memory size of this process's pretended GPU."""

import ctypes
import os

ENDLESS_BYTES = 1 << 41
"""GPU memory size at which no allocation fails; expandable segments reserve its address range."""


def limit_memory(memory_bytes: int) -> None:
    """Limit the bytes that PyTorch's allocator can reserve."""
    os.environ |= {"HARNESS_DRY_RUN_MEMORY": str(memory_bytes), "HARNESS_DRY_RUN_OUTSIDE": "0"}
    ctypes.CDLL(None).harness_dry_run_describe()
