"""Scratch memory that a matrix product takes below the dispatcher, on the CPU.

float32 and float64 products go to MKL, which allocates outside PyTorch. A bfloat16 product
goes to oneDNN, whose scratchpad is a block of PyTorch's allocator: taken and returned within
the product, seen by no dispatch mode. How large it is depends on the processor.

Sources: aten/src/ATen/native/mkldnn/Matmul.cpp (which products go to oneDNN); oneDNN
src/cpu/matmul/gemm_based_common.hpp (``get_scratchpad_num_elements``) and
src/common/memory_tracking.hpp (alignment).
"""

from collections.abc import Callable
from pathlib import Path

Scratch = Callable[[int, int, int, bool], int]
"""Bytes of scratch of a product (m, k) x (k, n).

The last argument says whether both factors are contiguous along k (a row-major left factor,
a column-major right one).
"""

CPUINFO = Path("/proc/cpuinfo")

_ONEDNN_LEAST_SIZE = 16 * 16 * 16
"""``mkldnn_gemm_min_size``: a product of m, k and n up to this stays out of oneDNN."""
_ALIGNMENT_BYTES = 128
_BLOCK_ELEMENTS = 64
_ACCUMULATOR_BYTES = 4

_AVX512_CORE = {"avx512f", "avx512bw", "avx512dq", "avx512vl"}
_OTHER_KERNELS = {
    "bfloat16": {"avx512_bf16", "amx_bf16", "avx_ne_convert"},
    "float16": {"avx512_fp16", "amx_fp16", "avx_ne_convert"},
}


class UnknownScratchError(Exception):
    """No formula is known for this type of number on this processor; the message says why."""


def scratch_of(dtype: str, threads: int, cpu_flags: frozenset[str] | None = None) -> Scratch | None:
    """Return the scratch of products of ``dtype`` on this machine; None where there is none.

    ``cpu_flags`` are the processor's features as Linux names them, read where not given.

    Raises:
        UnknownScratchError: the product runs in a kernel that was not followed.

    """
    if dtype in ("float32", "float64"):
        return None
    flags = read_cpu_flags() if cpu_flags is None else cpu_flags
    found = sorted(flags & _OTHER_KERNELS[dtype])
    if found:
        raise UnknownScratchError(f"{dtype} products on a processor with {', '.join(found)}")
    if not flags >= _AVX512_CORE:
        raise UnknownScratchError(f"{dtype} products on a processor without AVX-512 (bw, dq, vl)")
    if dtype == "float16":
        return None
    return lambda m, k, n, dots: bfloat16_scratch_bytes(m, k, n, threads=threads, dots=dots)


def bfloat16_scratch_bytes(m: int, k: int, n: int, *, threads: int, dots: bool) -> int:
    """Return the scratchpad of oneDNN's ``gemm_bf16_matmul_t`` for (m, k) x (k, n).

    The product is accumulated in float32, in one block of the output a thread; enough for
    one thread that does it all is kept. Each block is rounded up to 64 elements. Small
    products, and those of one row or column that are plain dot products (``dots``: both
    factors contiguous along k), run in PyTorch's own kernels and take nothing.
    """
    if m * k * n <= _ONEDNN_LEAST_SIZE or (dots and 1 in (m, n)):
        return 0
    elements = max(_block_elements(m, n, 1), threads * _block_elements(m, n, threads))
    return _ACCUMULATOR_BYTES * elements + _ALIGNMENT_BYTES


def _block_elements(m: int, n: int, threads: int) -> int:
    work = -(-m * n // threads)
    size = min(m * n, work // n * n) if work >= n else work
    return -(-size // _BLOCK_ELEMENTS) * _BLOCK_ELEMENTS


def read_cpu_flags(path: Path = CPUINFO) -> frozenset[str]:
    """Return the processor's features as Linux names them; none where they cannot be read."""
    try:
        text = path.read_text()
    except OSError:
        return frozenset()
    lines = (line for line in text.splitlines() if line.startswith("flags"))
    return frozenset(next(lines, "").partition(":")[2].split())
