"""Scratch of a bfloat16 product in oneDNN's ``brgemm_matmul_t<avx512_core_bf16>``.

The kernel multiplies blocks: each thread packs its block of the right factor, copies its block
of the left one where that is stored by columns, and accumulates in float32. How large the blocks
are is searched for: the search is repeated here, its scores in single precision as there.

Sources (oneDNN 3.12): src/cpu/x64/matmul/brgemm_matmul_utils.cpp
(``compute_blocking_heuristic_avx512``, ``init_aux_values``, ``init_scratchpad``);
src/common/memory_tracking.hpp (``registry_t::book``).
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_Scores = NDArray[np.float32]

_ELEMENT_BYTES = 2
_ACCUMULATOR_BYTES = 4
_ALIGNMENT_BYTES = 128
"""What each booked buffer is longer, so that it can be aligned."""
_ADDRESSES_BYTES = 16 * 40
"""A thread's ``brgemm_batch_element_t``s."""
_PACKED_COLUMNS = 64
_PACKED_ROWS = 32
_CACHE_LINE_ELEMENTS = 32


class _Product(NamedTuple):
    """A product (m, k) x (k, n) of ``threads``; ``by_columns``: the left factor is, and copied."""

    m: int
    k: int
    n: int
    threads: int
    by_columns: bool

    @property
    def treated_as_transposed(self) -> bool:
        """One row is stored by rows and by columns: oneDNN then names it transposed."""
        return self.by_columns or self.m == 1

    @property
    def copies_left(self) -> bool:
        """A left factor by rows is copied where its rows would fall onto the same cache sets."""
        return self.by_columns or (self.m >= 1024 and self.k >= 4096 and _is_power_of_2(self.k))

    @property
    def k_block(self) -> int:
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
def scratch_bytes(m: int, k: int, n: int, *, threads: int, by_columns: bool) -> int:
    """Return the scratchpad of a bfloat16 product (m, k) x (k, n) in ``threads`` threads.

    ``by_columns`` says how the left factor is stored; it does not matter for the right one.
    """
    product = _Product(m, k, n, threads, by_columns and m > 1)
    rows, chunk, k_threads = _search(product)
    packed = _PACKED_COLUMNS * _round_up(product.k_block, _PACKED_ROWS) * _ELEMENT_BYTES
    if k_threads > 1:
        sums = m * n
    else:
        sums = rows * product.n_block * (chunk if product.k_block < k else 1)
    buffers = [_ADDRESSES_BYTES, packed, sums * _ACCUMULATOR_BYTES]
    if product.copies_left:
        buffers.append(rows * _copied_row_elements(product.k_block) * _ELEMENT_BYTES)
    return sum(threads * size + _ALIGNMENT_BYTES for size in buffers)


def _copied_row_elements(k_block: int) -> int:
    """Whole cache lines, and one more where the rows would fall onto the same cache sets."""
    elements = _round_up(k_block, _CACHE_LINE_ELEMENTS)
    return elements + _CACHE_LINE_ELEMENTS * (elements >= 512 and _is_power_of_2(elements))


def _search(product: _Product) -> _Blocking:
    """Return the blocking of the least score, of equal ones the first, from large to small."""
    m, _, n, threads, _ = product
    idle = threads > product.n_blocks
    least_rows = min(m, 16 if idle else 32)
    along_k = idle and product.treated_as_transposed and _splits_k(product.k)
    rows = np.arange(min(256, m), least_rows - 1, -1)
    chunks = np.arange(min(16 if product.copies_left else 1, product.n_blocks), 0, -1)[:, None]
    best, least = _Blocking(least_rows, 1, 1), np.float32(1)
    for k_threads in range(min(threads, 4) if along_k else 1, 0, -1):
        scores = _scores(product, rows, chunks, k_threads)
        if not along_k:
            scores[_leaves_threads_idle(m, n, threads, rows, product.n_block * chunks)] = 1
        if scores.min() < least:
            least = scores.min()
            at_chunk, at_rows = np.unravel_index(scores.argmin(), scores.shape)
            best = _Blocking(int(rows[at_rows]), int(chunks[at_chunk, 0]), k_threads)
    return best


def _splits_k(k: int) -> bool:
    return k >= 2048 and _is_power_of_2(k)


def _leaves_threads_idle(
    m: int, n: int, threads: int, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Say of which blockings the few blocks do not divide among the threads."""
    work: NDArray[np.int64] = -(-m // rows) * -(-n // columns)
    idle: NDArray[np.bool_] = (work < 3 * threads) & (work % threads != 0)
    return idle


def _scores(
    product: _Product, rows: NDArray[np.int64], chunks: NDArray[np.int64], k_threads: int
) -> _Scores:
    """Return ``get_imbalance`` of each pair of a number of rows and a chunk."""
    m, k, n, threads, _ = product
    single, n_blocks = np.float32, product.n_blocks
    threads_of_blocks = threads // k_threads
    row_blocks = -(-m // rows)
    work = row_blocks * -(-n // (product.n_block * chunks))
    beyond_m = (rows * row_blocks % m).astype(single) / single(m)
    taken = (-(-n_blocks // chunks)).astype(single) * chunks.astype(single)
    beyond_n = (taken - single(n_blocks)) / single(n_blocks)
    unused = single(threads - threads_of_blocks * k_threads) / single(threads)
    unequal_k = _disbalance(np.array(k), k_threads * product.k_block)
    total = _disbalance(work, threads_of_blocks) + beyond_m + beyond_n + unused + unequal_k
    found: _Scores = total / single(5)
    return found


def _disbalance(work: NDArray[np.int64], parts: int) -> _Scores:
    """Return how far ``work`` is from a multiple of ``parts``, as a share of ``parts``."""
    rest = work % parts
    distance = np.where(work < parts, parts - rest, np.minimum(parts - rest, rest))
    return distance.astype(np.float32) / np.float32(parts)


def _divide_up(number: int, by: int) -> int:
    return -(-number // by)


def _round_up(number: int, to: int) -> int:
    return -(-number // to) * to


def _is_power_of_2(number: int) -> bool:
    return number & (number - 1) == 0
