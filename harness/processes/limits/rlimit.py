"""Memory budgets that the kernel or the CUDA allocator enforces for one process.

``data_segment`` limits the private writable memory of the process (``RLIMIT_DATA``). The kernel
refuses a mapping above the limit, so the allocation fails with an error. ``caching_allocator``
limits PyTorch's CUDA allocator. Another kind of budget is a memory cgroup, in which the kernel
kills the process (``harness.processes.limits.cgroup``).

Source: setrlimit(2); proc(5), VmData; mm/mmap.c of the Linux kernel (``may_expand_vm``).
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_STATUS = Path("/proc/self/status")
_PART_BYTES = 512


def status_bytes(name: str) -> int:
    """Return a size from ``/proc/self/status``, such as ``VmData``, in bytes.

    The file is read in small parts, because a large buffer would increase the reported size.
    """
    text = b""
    with _STATUS.open("rb", buffering=0) as status:
        while part := status.read(_PART_BYTES):
            text += part
            _, separator, rest = text.partition(f"\n{name}:".encode())
            if separator and b"\n" in rest:
                return int(rest.split()[0]) * 1024
    raise OSError(f"{_STATUS} has no {name}")


@contextmanager
def data_segment(budget_bytes: int) -> Iterator[None]:
    """Let this process allocate at most ``budget_bytes`` in addition to its present memory.

    Memory that is freed inside the ``with`` block can be allocated again. The limit ends with the
    ``with`` block, so that a failure can be reported.
    """
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (status_bytes("VmData") + budget_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


@contextmanager
def caching_allocator(budget_bytes: int) -> Iterator[None]:
    """Limit PyTorch's CUDA allocator to ``budget_bytes`` of the current GPU.

    PyTorch computes the limit from a fraction of the GPU's memory. The fraction is chosen so that
    rounding makes the limit exactly ``budget_bytes``.
    """
    import torch

    total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, (budget_bytes + 0.25) / total))
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


_REFUSED = """
import mmap
from harness.processes.limits.rlimit import data_segment
FLAGS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
with data_segment(1 << 20):
    held = mmap.mmap(-1, 1 << 19, flags=FLAGS)
    try:
        mmap.mmap(-1, 1 << 20, flags=FLAGS)
    except OSError:
        print("refused")
"""


def data_segment_available() -> tuple[bool, str]:
    """Test in a new process whether ``RLIMIT_DATA`` is enforced; also return an explanation."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", _REFUSED], capture_output=True, text=True, check=False
    )
    if done.stdout.strip() == "refused":
        return True, "RLIMIT_DATA: the kernel refuses the mapping that exceeds the budget"
    reason = (done.stderr.strip().splitlines() or ["a mapping beyond the limit was allowed"])[-1]
    return False, f"RLIMIT_DATA is not enforced: {reason}"
