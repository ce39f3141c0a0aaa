"""Scratch of CUDA's kernels, worked out by hand from Reduce.cuh and Normalization.cuh."""

from dataclasses import replace

import pytest

from harness.prediction.gpu.catalogue import GPUS
from harness.prediction.mlp.kernels import column_sums_scratch


def sums(
    rows: int, columns: int, element_bytes: int = 4, processors: int = 108
) -> tuple[int, list[list[int]]]:
    gpu = replace(GPUS["a100-40gb"], multiprocessors=processors)
    return column_sums_scratch(rows, columns, element_bytes, gpu)


# 9,000 x 100 in float32 on 108 multiprocessors of 2,048 threads: 100 is a multiple of 4, so loads
# of 4 columns, 25 of them across, at most 512 / 4 threads in a block: 16 across and 8 down. Each
# thread would sum 9,000 / 8 = 1,125 values: more than 256. The grid is ceil(25 / 16) = 2 blocks;
# 108 * (2,048 / 128) = 1,728 would fill the GPU. So min(1,728 / 2, ceil(1,125 / 16) = 71) = 71
# blocks share a column. Staging: 4 bytes * 100 columns * 71 blocks * 16 threads * 4 columns a
# load. Counters: 2. Sixteen bits are summed in float32.
TALL = [4 * 100 * 71 * 16 * 4, 4 * 2]


@pytest.mark.parametrize(
    ("rows", "columns", "more", "launch"),
    [
        (9000, 100, {}, TALL),
        (9000, 100, {"element_bytes": 2}, TALL),
        (9000, 100, {"element_bytes": 8}, [2 * TALL[0], TALL[1]]),
        # 16 loads of 4, 16 x 8 threads, one block in the grid, 8,192 values a thread. 512 blocks
        # would leave 16 values to each; on one multiprocessor 16 blocks fill the GPU, but no
        # thread may have more than 256 values: 32 blocks. On 108, 512 of 1,728.
        (65_536, 64, {"processors": 1}, [4 * 64 * 32 * 16 * 4, 4]),
        (65_536, 64, {"processors": 108}, [4 * 64 * 512 * 16 * 4, 4]),
        # 512 threads of 512 values; 32 blocks leave 16 to each; 4 bytes a block.
        (262_144, 1, {}, [4 * 32, 4]),
        (512, 256, {}, []),  # one block sums it
    ],
)
def test_sums_that_blocks_share_meet_in_a_staging_buffer(
    rows: int, columns: int, more: dict[str, int], launch: list[int]
) -> None:
    assert sums(rows, columns, **more)[1] == [launch]


def test_what_32_bits_cannot_count_is_summed_in_halves() -> None:
    """300,000 x 4,096 in bfloat16 are 2.29 GiB: two halves, which meet in float32."""
    halved = sums(300_000, 4096, element_bytes=2)
    assert halved[1] == 2 * sums(150_000, 4096, element_bytes=2)[1]
    assert halved[0] == 4 * 4096
    assert sums(300_000, 4096)[0] == 0  # float32 sums meet in the result
    assert len(sums(300_000, 4096)[1]) == 4
