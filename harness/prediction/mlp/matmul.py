"""Scratch memory that a matmul allocates below the dispatcher, on the CPU.

float32 and float64 matmuls go to MKL, which allocates outside PyTorch. A bfloat16 matmul
goes to oneDNN, whose scratchpad is a block of PyTorch's allocator: allocated and freed within
the matmul, seen by no dispatch mode. How large it is depends on the processor: one that
multiplies bfloat16 itself (AVX512-BF16) runs another kernel than one that has AVX-512 alone.

Sources: aten/src/ATen/native/mkldnn/Matmul.cpp and CPUBlas.cpp (which matmuls go to oneDNN);
oneDNN src/cpu/matmul/cpu_matmul_list.cpp (the kernels, best first), gemm_based_common.hpp
(``get_scratchpad_num_elements``) and src/common/memory_tracking.hpp (alignment).
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from harness.prediction.mlp import brgemm
from harness.prediction.torch_rules import SCRATCH_OF_VECTORS, Rule, rule_of

Layout = Literal["NN", "NT", "TN"]
"""How the operands are stored, in the letters of BLAS: N by rows, T by columns, left one first.

NT are plain dot products: both operands are contiguous along k.
"""

Scratch = Callable[[int, int, int, Layout], int]
"""Bytes of scratch of a matmul (m, k) x (k, n) of operands that are stored so."""

CPUINFO = Path("/proc/cpuinfo")

_CAPS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
"""Variables that keep oneDNN from features which the processor has."""

_ONEDNN_LEAST_SIZE = 16 * 16 * 16
"""``mkldnn_gemm_min_size``: a matmul with m·k·n up to this stays out of oneDNN."""
_ALIGNMENT_BYTES = 128
_BLOCK_ELEMENTS = 64
_ACCUMULATOR_BYTES = 4

AVX512_CORE = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl"})
"""A processor with no more than these multiplies float16 without scratch."""
_AVX512_BF16 = AVX512_CORE | {"avx512_vnni", "avx512_bf16"}
_OTHER_KERNELS = {
    "bfloat16": {"amx_bf16", "avx_ne_convert"},
    "float16": {"avx512_fp16", "amx_fp16", "avx_ne_convert"},
}


class UnknownScratchError(Exception):
    """No formula is known for this type of number on this processor; the message says why."""


def _unknown(dtype: str, where: str) -> UnknownScratchError:
    return UnknownScratchError(f"what {dtype} matmuls allocate for themselves {where} is not known")


def scratch_of(dtype: str, threads: int, cpu_flags: frozenset[str] | None = None) -> Scratch | None:
    """Return the scratch of matmuls of ``dtype`` on this machine; None where there is none.

    ``cpu_flags`` are the processor's features as Linux names them, read where not given.

    Raises:
        UnknownScratchError: the matmul runs in a kernel whose scratch memory is not known.

    """
    if dtype in ("float32", "float64"):
        return None
    if cpu_flags is None:
        _check_caps(dtype)
    flags = read_cpu_flags() if cpu_flags is None else cpu_flags
    found = sorted(flags & _OTHER_KERNELS[dtype])
    if found:
        raise _unknown(dtype, f"on a processor with {', '.join(found)}")
    if not flags >= AVX512_CORE:
        raise _unknown(dtype, "on a processor without AVX-512 (bw, dq, vl)")
    if dtype == "float16":
        return None
    if not flags >= _AVX512_BF16:
        return lambda m, k, n, layout: gemm_bytes(m, k, n, layout, threads=threads)
    rule = rule_of("bfloat16-scratch")
    return lambda m, k, n, layout: brgemm_bytes(m, k, n, layout, threads=threads, rule=rule)


def _check_caps(dtype: str) -> None:
    for name in _CAPS:
        if name in os.environ:
            raise _unknown(dtype, f"with {name} set")


def gemm_bytes(m: int, k: int, n: int, layout: Layout, *, threads: int) -> int:
    """Return the scratchpad of oneDNN's ``gemm_bf16_matmul_t`` for (m, k) x (k, n).

    The result is accumulated in float32, in one block of the output a thread; enough for
    one thread that does it all is kept. Each block is rounded up to 64 elements. Small
    products, and those of one row or column that are plain dot products, run in PyTorch's
    own kernels and allocate nothing.
    """
    dots = layout == "NT" or (layout == "NN" and k == n == 1)
    if m * k * n <= _ONEDNN_LEAST_SIZE or (dots and 1 in (m, n)):
        return 0
    elements = max(_block_elements(m, n, 1), threads * _block_elements(m, n, threads))
    return _ACCUMULATOR_BYTES * elements + _ALIGNMENT_BYTES


def brgemm_bytes(m: int, k: int, n: int, layout: Layout, *, threads: int, rule: Rule) -> int:
    """Return the scratchpad of oneDNN's ``brgemm_matmul_t`` for (m, k) x (k, n).

    Small matmuls run in PyTorch's own kernels. One of a single column is handed over as one
    of a single row.

    Raises:
        UnknownScratchError: it depends on the size of a cache.

    """
    if m * k * n <= _ONEDNN_LEAST_SIZE:
        return 0
    if rule is SCRATCH_OF_VECTORS and 1 in (m, n):
        by_columns = layout == "TN" if n == 1 else layout != "NT"
        try:
            return brgemm.vector_scratch_bytes(m * n, k, threads=threads, by_columns=by_columns)
        except brgemm.CacheDependentError as error:
            reason = f"bfloat16 matmul {error}: it depends on the processor's cache"
            raise UnknownScratchError(reason) from error
    if n == 1:
        m, n, layout = 1, m, "NN"
    by_columns = layout == "TN"
    return brgemm.scratch_bytes(m, k, n, threads=threads, by_columns=by_columns, rule=rule)


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
