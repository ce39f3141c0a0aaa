"""Scratch of matrix products: the rule by hand, and against the allocator."""

from pathlib import Path

import pytest
import torch

from harness.instruments.allocator import AllocationRecorder
from harness.prediction.matmul import (
    UnknownScratchError,
    bfloat16_scratch_bytes,
    read_cpu_flags,
    scratch_of,
)

CORE = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl"})


@pytest.mark.parametrize(
    ("shape", "threads", "size"),
    [
        ((64, 48, 32), 1, 64 * 32 * 4 + 128),
        ((64, 48, 32), 2, 64 * 32 * 4 + 128),
        # 160 elements -> three blocks of 64; of two threads each 80 -> 128
        ((10, 4096, 16), 1, 192 * 4 + 128),
        ((10, 4096, 16), 2, 256 * 4 + 128),
        # 272 elements -> 320; two threads: 136 = 8 whole rows of 16 + 8 -> 128 each, less
        ((17, 64, 16), 2, 320 * 4 + 128),
        # two threads: 136 = 8 rows of 17, 136 -> 192 each
        ((16, 64, 17), 2, 384 * 4 + 128),
        ((16, 16, 16), 1, 0),
        ((17, 16, 16), 1, 320 * 4 + 128),
    ],
)
def test_blocks_of_64_elements_a_thread(
    shape: tuple[int, int, int], threads: int, size: int
) -> None:
    assert bfloat16_scratch_bytes(*shape, threads=threads, dots=False) == size


def test_one_row_of_dot_products_takes_none() -> None:
    assert bfloat16_scratch_bytes(1, 64, 257, threads=1, dots=True) == 0
    assert bfloat16_scratch_bytes(257, 64, 1, threads=1, dots=True) == 0
    assert bfloat16_scratch_bytes(1, 64, 257, threads=1, dots=False) == 320 * 4 + 128


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_full_precision_takes_none_on_any_processor(dtype: str) -> None:
    assert scratch_of(dtype, 1, frozenset()) is None


def test_kernels_that_were_not_followed_are_named() -> None:
    with pytest.raises(UnknownScratchError, match=r"bfloat16 products .* amx_bf16"):
        scratch_of("bfloat16", 1, CORE | {"amx_bf16"})
    with pytest.raises(UnknownScratchError, match="without AVX-512"):
        scratch_of("bfloat16", 1, frozenset({"avx2"}))
    assert scratch_of("float16", 1, CORE) is None


def test_features_are_read_as_linux_names_them(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nflags\t\t: fpu avx2 avx512f\nbugs\t\t:\n")
    assert read_cpu_flags(file) == {"fpu", "avx2", "avx512f"}
    assert read_cpu_flags(tmp_path / "absent") == frozenset()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("left_by_rows", [True, False])
@pytest.mark.parametrize("right_by_columns", [True, False])
@pytest.mark.parametrize("shape", [(64, 48, 32), (10, 4096, 16), (300, 100, 7), (5, 999, 1)])
def test_the_allocator_sees_the_same(
    shape: tuple[int, int, int], threads: int, left_by_rows: bool, right_by_columns: bool
) -> None:
    try:
        scratch = scratch_of("bfloat16", threads)
    except UnknownScratchError as error:
        pytest.skip(str(error))
    assert scratch is not None
    m, k, n = shape
    left = torch.zeros(m, k) if left_by_rows else torch.zeros(k, m).t()
    right = torch.zeros(n, k).t() if right_by_columns else torch.zeros(k, n)
    left, right = left.to(torch.bfloat16), right.to(torch.bfloat16)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with AllocationRecorder() as recorder:
            torch.mm(left, right)
    finally:
        torch.set_num_threads(before)
    taken = [event.size_bytes for event in recorder.trace.events if event.size_bytes > 0]
    expected = scratch(m, k, n, left_by_rows and right_by_columns)
    assert taken == [m * n * 2] + [expected] * (expected > 0)
