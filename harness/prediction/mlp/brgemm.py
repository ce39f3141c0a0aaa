"""Scratch of a bfloat16 matmul in oneDNN's ``brgemm_matmul_t<avx512_core_bf16>``.

The kernel multiplies blocks: each thread packs its block of the right operand, copies its block
of the left one where that is stored by columns, and accumulates in float32. How large the blocks
are is searched for: the search is repeated here, its scores in single precision as there.

Since oneDNN 3.13 a matrix times a vector has a kernel of its own, which packs nothing. Before
oneDNN 3.10 a block that is summed in one go kept no sums.

Sources (oneDNN 3.7, 3.12, 3.13): src/cpu/x64/matmul/brgemm_matmul_utils.cpp
(``compute_blocking_heuristic_avx512``, ``init_aux_values``, ``init_scratchpad``,
``is_gemv_applicable``); src/common/memory_tracking.hpp (``registry_t::book``).
"""

from array import array
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from harness.prediction.torch_rules import (
    SCRATCH_WITHOUT_SUMS,
    Rule,
)

_ELEMENT_BYTES = 2
_ACCUMULATOR_BYTES = 4
_ALIGNMENT_BYTES = 128
"""What each booked buffer is longer, so that it can be aligned."""
_ADDRESSES_BYTES = 16 * 40
"""A thread's ``brgemm_batch_element_t``s."""
_PACKED_COLUMNS = 64
_PACKED_ROWS = 32
_CACHE_LINE_ELEMENTS = 32
_VECTOR_K_BLOCK = 16384
_LEAST_L2_BYTES = 256 * 1024
"""No processor with these instructions has a smaller second-level cache."""


class CacheDependentError(Exception):
    """How a matmul is split depends on the processor's second-level cache."""


class _Matmul(NamedTuple):
    """A matmul (m, k) x (k, n) of ``threads``; ``by_columns``: the left operand is, and is copied.

    ``by_vector``: n is 1, and the kernel for that runs.
    """

    m: int
    k: int
    n: int
    threads: int
    by_columns: bool
    by_vector: bool = False

    @property
    def treated_as_transposed(self) -> bool:
        """One row is stored by rows and by columns: oneDNN then names it transposed."""
        return not self.by_vector and (self.by_columns or self.m == 1)

    @property
    def copies_left(self) -> bool:
        """A left operand by rows is copied if its rows would fall onto the same cache sets."""
        return self.by_columns or (self.m >= 1024 and self.k >= 4096 and _is_power_of_2(self.k))

    @property
    def k_block(self) -> int:
        if self.by_vector:
            return min(self.k, _VECTOR_K_BLOCK)
        return min(self.k, 512 if self.treated_as_transposed or self.k <= 1024 else 1024)

    @property
    def n_block(self) -> int:
        return min(self.n, _PACKED_COLUMNS)

    @property
    def n_blocks(self) -> int:
        return _divide_up(self.n, self.n_block)


class _Blocking(NamedTuple):
    """Rows of a block, blocks of columns that a thread takes at a time, threads along k."""

    rows: int
    chunk: int
    k_threads: int


@lru_cache(maxsize=4096)
def scratch_bytes(m: int, k: int, n: int, *, threads: int, by_columns: bool, rule: Rule) -> int:
    """Return the scratchpad of a bfloat16 matmul (m, k) x (k, n) in ``threads`` threads.

    ``by_columns`` says how the left operand is stored; it does not matter for the right one.
    """
    matmul = _Matmul(m, k, n, threads, by_columns and m > 1)
    rows, chunk, k_threads = _search(matmul)
    packed = _PACKED_COLUMNS * _round_up(matmul.k_block, _PACKED_ROWS) * _ELEMENT_BYTES
    split = matmul.k_block < k
    sums = m * n if k_threads > 1 else rows * matmul.n_block * (chunk if split else 1)
    buffers = [_ADDRESSES_BYTES, packed]
    if split or rule is not SCRATCH_WITHOUT_SUMS:
        buffers.append(sums * _ACCUMULATOR_BYTES)
    if matmul.copies_left:
        buffers.append(rows * _copied_row_elements(matmul.k_block) * _ELEMENT_BYTES)
    return _booked(threads, buffers)


@lru_cache(maxsize=4096)
def vector_scratch_bytes(m: int, k: int, *, threads: int, by_columns: bool) -> int:
    """Return the scratchpad of a bfloat16 matmul of an (m, k) matrix and a vector.

    ``by_columns`` says how the matrix is stored.

    Raises:
        CacheDependentError: k is split where the matrix is larger than the second-level cache.

    """
    matmul = _Matmul(m, k, 1, threads, by_columns=False, by_vector=True)
    least_rows = min(m, 16 if threads > 1 else 32)
    few_blocks = _divide_up(m, least_rows) <= 2 * threads
    aliased = by_columns and _is_power_of_2(m) and few_blocks and threads > 1
    if aliased and m * k * _ELEMENT_BYTES > _LEAST_L2_BYTES:
        raise CacheDependentError(f"({m}, {k}) x ({k}, 1) in {threads} threads")
    addresses = _ADDRESSES_BYTES * _divide_up(k, matmul.k_block)
    return _booked(threads, [addresses, _search(matmul).rows * _ACCUMULATOR_BYTES])


def _booked(threads: int, buffers: Iterable[int]) -> int:
    return sum(threads * size + _ALIGNMENT_BYTES for size in buffers)


def _copied_row_elements(k_block: int) -> int:
    """Whole cache lines, and one more where the rows would fall onto the same cache sets."""
    elements = _round_up(k_block, _CACHE_LINE_ELEMENTS)
    return elements + _CACHE_LINE_ELEMENTS * (elements >= 512 and _is_power_of_2(elements))


def _search(matmul: _Matmul) -> _Blocking:
    """Return the blocking of the least score, of equal ones the first, from large to small.

    The bounds are those of the source, measured there.
    """
    m, k, n, threads, *_ = matmul
    idle = threads > matmul.n_blocks
    along_k = idle and matmul.treated_as_transposed and k >= 2048 and _is_power_of_2(k)
    sizes = range(min(256, m), min(m, 16 if idle else 32) - 1, -1)
    best, least = _Blocking(sizes[-1], 1, 1), 1.0
    for k_threads in range(min(threads, 4) if along_k else 1, 0, -1):
        for chunk in range(min(16 if matmul.copies_left else 1, matmul.n_blocks), 0, -1):
            columns = _divide_up(n, matmul.n_block * chunk)
            blocks = [_divide_up(m, rows) * columns for rows in sizes]
            scores = _scores(matmul, sizes, blocks, chunk, k_threads)
            for rows, count, score in zip(sizes, blocks, scores, strict=True):
                unequal = count < 3 * threads and count % threads and not along_k
                if score < least and not unequal:
                    best, least = _Blocking(rows, chunk, k_threads), score
    return best


def _scores(
    matmul: _Matmul, sizes: Sequence[int], blocks: Sequence[int], chunk: int, k_threads: int
) -> Sequence[float]:
    """Return ``get_imbalance`` of blocks of each number of rows; there are that many of them."""
    m, k, _, threads, *_ = matmul
    n_blocks, block_threads = matmul.n_blocks, threads // k_threads
    taken = _divide_up(n_blocks, chunk) * chunk
    of_all = (
        (taken - n_blocks) / n_blocks,
        (threads - block_threads * k_threads) / threads,
        _disbalance(k, k_threads * matmul.k_block),
    )
    beyond_m = _single(_divide_up(m, rows) * rows % m / m for rows in sizes)
    found = _single(_disbalance(count, block_threads) for count in blocks)
    found = _single(map(sum, zip(found, beyond_m, strict=True)))
    for share in _single(of_all):
        found = _single(score + share for score in found)
    return _single(score / 5 for score in found)


def _disbalance(work: int, parts: int) -> float:
    """Return how far ``work`` is from a multiple of ``parts``, as a share of ``parts``."""
    rest = work % parts
    return (parts - rest if work < parts else min(parts - rest, rest)) / parts


def _single(numbers: Iterable[float]) -> Sequence[float]:
    """Round to single precision, as each operation of such numbers does."""
    return array("f", numbers)


def _divide_up(number: int, by: int) -> int:
    return -(-number // by)


def _round_up(number: int, to: int) -> int:
    return -(-number // to) * to


def _is_power_of_2(number: int) -> bool:
    return number & (number - 1) == 0
