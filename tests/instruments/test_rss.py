import mmap
import os

import pytest

from harness.instruments import rss
from tests.child_process import child

# In a process of its own: what pytest freed before would be reused and hide the rise.
_BLOCK = """
import mmap, time
from harness.instruments import rss
rss._has_kernel_mark = lambda: False
def touch(mebibytes):
    with mmap.mmap(-1, mebibytes << 20) as block:
        for page in range(0, len(block), 4096):
            block[page] = 1
        time.sleep(0.1)  # long enough that a sampler gets a turn on a busy machine
touch(1)
with rss.resident_rise() as rise:
    touch(64)
    touch(32)
print(rise.source, rise.rise_bytes)
"""


def kernel_slack_bytes() -> int:
    """Return how far the kernel can be off: each processor may hold back two batches."""
    processors = os.cpu_count() or 1
    return 2 * processors * max(32, 2 * processors) * mmap.PAGESIZE


def test_psutil_stands_in_where_the_kernel_has_no_mark() -> None:
    source, rise = child(_BLOCK).stdout.split()
    assert source == "psutil"
    assert 60 << 20 <= int(rise) < 66 << 20


# The kernel takes pages of a file from a process when another one wants memory.
_LOSING = """
import mmap, sys
from harness.instruments import rss
def resident(size):
    with open(rss._largest_file(), "rb") as file:
        pages = mmap.mmap(file.fileno(), size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
    pages.madvise(mmap.MADV_RANDOM)  # read no neighbours
    sum(pages[:: mmap.PAGESIZE])
    return pages
lost, kept = resident({lost}), resident(4 << 20)
with rss.arranged_rise(0) as rise:
    lost.madvise(mmap.MADV_DONTNEED)
    with mmap.mmap(-1, 16 << 20) as block:
        block[:: mmap.PAGESIZE] = bytes(4096)
print(rise.lost_bytes, rise.rise_bytes)
"""


@pytest.mark.skipif(not rss._has_kernel_mark(), reason="no kernel high-water mark to reset")
def test_a_rise_says_what_the_kernel_took_from_the_process_meanwhile() -> None:
    lost, rise = map(int, child(_LOSING.format(lost=4 << 20)).stdout.split())
    assert abs(lost - (4 << 20)) <= kernel_slack_bytes()
    assert rise < (16 << 20) - kernel_slack_bytes(), "the peak lacks those pages"
    nothing, rise = map(int, child(_LOSING.format(lost=mmap.PAGESIZE)).stdout.split())
    assert nothing == 0
    assert abs(rise - (16 << 20)) <= kernel_slack_bytes()
