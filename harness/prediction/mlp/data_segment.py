"""Converts live bytes to the bytes that the kernel counts under the harness's malloc settings.

In a process that tests a memory budget, each block of at least one page has its own memory mapping
(``harness.processes.limits.heap_headroom``). The mapping contains the block, PyTorch's alignment
and glibc's header, and is rounded up to whole pages. Blocks below a page use free heap memory and
add nothing. MKL's buffers are allocated before the test. The library oneDNN compiles code for GELU
and its derivative for each new shape. The compiled code stays in memory and is counted. The result
is exact to the page up to about 50 layers; lists larger than a page are not included.

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
"""Bytes of the code for one shape: a buffer of 256 KiB (oneDNN src/cpu/x64/jit_generator.hpp) and
two pages of descriptors (observed)."""
_UNTOUCHED_BYTES = 60 * PAGE_BYTES
"""Bytes of oneDNN's code buffer that nothing writes to (observed)."""
_TABLE_BYTES = 512 * PAGE_BYTES
"""Bytes of memory that one page table maps."""
_OTHER_PAGES = 4
"""Pages for kernel objects and for partly used page tables; 2 to 8 pages were observed."""


@lru_cache(maxsize=4096)  # a step has few sizes and many blocks
def mapped_bytes(size_bytes: int) -> int:
    """Return the bytes that a block adds to the data segment; 0 for a small block."""
    chunk = _chunk(_chunk(size_bytes) + ALIGNMENT_BYTES + _MINIMAL_BYTES)
    if chunk < PAGE_BYTES:
        return 0
    return -(-(chunk + _HEADER_BYTES) // PAGE_BYTES) * PAGE_BYTES


def _chunk(request_bytes: int) -> int:
    """Return the size of glibc's chunk for a request (``request2size``)."""
    padded = (request_bytes + _HEADER_BYTES + _UNIT_BYTES - 1) // _UNIT_BYTES * _UNIT_BYTES
    return max(padded, _MINIMAL_BYTES)


class Peak(NamedTuple):
    """Size of a workload's largest data segment, and sizes of the segment's parts."""

    data_bytes: int
    """Size of the data segment, which RLIMIT_DATA limits."""
    live_bytes: int
    """Live bytes when the data segment is largest."""
    small_bytes: int
    """Live bytes in small blocks, which use free heap memory and are not counted."""
    library_bytes: int
    """Bytes of the code that oneDNN has compiled."""

    @property
    def rounding_bytes(self) -> int:
        """Bytes of headers, alignment and the unused ends of pages."""
        return self.data_bytes - self.library_bytes - (self.live_bytes - self.small_bytes)


def data_peak(workload: Workload) -> Peak:
    """Return the largest data segment while the network is built and the steps run."""
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
    """Return the bytes that RLIMIT_DATA counts at a peak."""
    return peak.data_bytes


def charged_bytes(peak: Peak) -> int:
    """Return the bytes that a memory cgroup counts at a peak: written pages and page tables."""
    kernels = peak.library_bytes // _KERNEL_BYTES
    return with_page_tables(peak.data_bytes - kernels * _UNTOUCHED_BYTES)


def with_page_tables(size_bytes: int) -> int:
    """Return ``size_bytes`` of written pages plus the bytes of their page tables."""
    return size_bytes + (size_bytes // _TABLE_BYTES + _OTHER_PAGES) * PAGE_BYTES


def solve_data_segment(
    workload: Workload,
    budget_bytes: int,
    axis: str,
    *,
    extra_bytes: int = 0,
    counted: Callable[[Peak], int] = data_bytes,
) -> int | None:
    """Return the largest value of ``axis`` whose predicted peak plus ``extra_bytes`` fits."""
    return solve(
        workload, budget_bytes, axis, lambda tried: counted(data_peak(tried)) + extra_bytes
    )
