"""Converts live bytes to the bytes that the kernel counts, under the pinned malloc policy.

A process that probes a threshold gives each block of a page or more a mapping of its own
(``harness.processes.limits.heap_headroom``). The mapping has the block's bytes, PyTorch's alignment
and glibc's header, rounded up to whole pages. Smaller blocks lie in the heap headroom for small
objects and add nothing. MKL's buffers exist beforehand. oneDNN compiles GELU and its derivative for
each new shape; this code counts, too, and stays. The result is exact to the page, except for lists
that grow beyond a page in networks of about fifty layers.

Source: glibc malloc/malloc.c, ``_mid_memalign``, ``_int_memalign`` and ``sysmalloc_mmap``;
c10/core/impl/alloc_cpu.cpp (``posix_memalign`` to 64 bytes).
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from harness.prediction.mlp.cpu_trace import predict_trace, solve
from harness.schema.workload import Workload

PAGE_BYTES = 4096
ALIGNMENT_BYTES = 64
_HEADER_BYTES = 8
_MINIMAL_BYTES = 32
_UNIT_BYTES = 16
_COMPILED = ("aten::gelu", "aten::gelu_backward")
_KERNEL_BYTES = (64 + 2) * PAGE_BYTES
"""Bytes of compiled code: a buffer of 256 KiB (oneDNN src/cpu/x64/jit_generator.hpp), and two pages
of descriptors, as observed."""
_UNTOUCHED_BYTES = 60 * PAGE_BYTES
"""Bytes of the code's buffer that nothing writes to, as observed."""
_TABLE_BYTES = 512 * PAGE_BYTES
"""Bytes that one page table maps."""
_OTHER_PAGES = 4
"""Pages of the kernel's objects for a few mappings, and of partly used tables; 2 to 8 were seen."""


@lru_cache(maxsize=4096)  # a step has few sizes and many blocks
def mapped_bytes(size_bytes: int) -> int:
    """Return the bytes that a block of ``size_bytes`` adds to the data segment, 0 if small."""
    chunk = _chunk(_chunk(size_bytes) + ALIGNMENT_BYTES + _MINIMAL_BYTES)
    if chunk < PAGE_BYTES:
        return 0
    return -(-(chunk + _HEADER_BYTES) // PAGE_BYTES) * PAGE_BYTES


def _chunk(request_bytes: int) -> int:
    """Return the size of glibc's chunk for a request (``request2size``)."""
    padded = (request_bytes + _HEADER_BYTES + _UNIT_BYTES - 1) // _UNIT_BYTES * _UNIT_BYTES
    return max(padded, _MINIMAL_BYTES)


class Peak(NamedTuple):
    """The data segment at its largest, and its parts."""

    data_bytes: int
    """Bytes that the kernel counts."""
    live_bytes: int
    """Bytes of the blocks alive then."""
    small_bytes: int
    """Live bytes in small blocks, which lie in the headroom and are not counted."""
    library_bytes: int
    """Bytes of code that a library had compiled by then."""

    @property
    def rounding_bytes(self) -> int:
        """Bytes of headers, alignment and the unused ends of pages."""
        return self.data_bytes - self.library_bytes - (self.live_bytes - self.small_bytes)


def data_peak(workload: Workload) -> Peak:
    """Return the largest data segment over a workload's build and steps."""
    compiles = workload.autocast is not None or workload.dtype != "float64"
    kernels: set[tuple[str, int]] = set()
    data = live = small = 0
    peak = Peak(0, 0, 0, 0)
    for event in predict_trace(workload).events:
        size = event.size_bytes
        mapped = mapped_bytes(abs(size))
        live += size
        if mapped:
            data += mapped if size > 0 else -mapped
        else:
            small += size
        if compiles and size > 0 and event.operator.endswith(_COMPILED):
            kernel = (event.operator.rpartition("/")[2], size)
            if kernel not in kernels:
                kernels.add(kernel)
                data += _KERNEL_BYTES
        if data > peak.data_bytes:
            peak = Peak(data, live, small, len(kernels) * _KERNEL_BYTES)
    return peak


def data_bytes(peak: Peak) -> int:
    """Return the bytes that RLIMIT_DATA counts."""
    return peak.data_bytes


def charged_bytes(peak: Peak) -> int:
    """Return the bytes charged to a memory cgroup: pages that are written to, and page tables."""
    kernels = peak.library_bytes // _KERNEL_BYTES
    return with_page_tables(peak.data_bytes - kernels * _UNTOUCHED_BYTES)


def with_page_tables(size_bytes: int) -> int:
    """Return the bytes charged to a memory cgroup for pages of ``size_bytes`` and their tables."""
    return size_bytes + (size_bytes // _TABLE_BYTES + _OTHER_PAGES) * PAGE_BYTES


def solve_data_segment(
    workload: Workload,
    budget_bytes: int,
    axis: str,
    *,
    extra_bytes: int = 0,
    counted: Callable[[Peak], int] = data_bytes,
) -> int | None:
    """Return the largest ``axis`` for which the ``counted`` bytes and ``extra_bytes`` fit."""
    return solve(
        workload, budget_bytes, axis, lambda tried: counted(data_peak(tried)) + extra_bytes
    )
