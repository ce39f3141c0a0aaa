"""Both sides of a comparison of traces: without scratch, and as a worker measures."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import torch

from harness.schema.events import Trace
from harness.schema.workload import Workload


def without_scratch(trace: Trace, workload: Workload) -> Trace:
    """Leave out blocks that a matmul of a 16-bit type frees with its very next event.

    No prediction has them; a block that is freed at once may also be a result, so both sides
    leave it out.
    """
    if not {workload.dtype, workload.autocast} & {"bfloat16", "float16"}:
        return trace
    left_out: set[int] = set()
    for place, (event, following) in enumerate(pairwise(trace.events)):
        is_freed = (following.address, -following.size_bytes) == (event.address, event.size_bytes)
        by_matmul = event.operator.endswith(("aten::mm", "aten::addmm"))
        if is_freed and by_matmul and event.size_bytes > 0:
            left_out |= {place, place + 1}
    kept = [event for place, event in enumerate(trace.events) if place not in left_out]
    return replace(trace, events=kept)


def fill(x: torch.Tensor, y: torch.Tensor | None) -> None:
    """Leave the examples as they are: no event depends on their values; labels are valid."""
    if y is not None:
        y.zero_()


@contextmanager
def threads_of(workload: Workload) -> Iterator[None]:
    """Compute with the threads that ``workload`` names."""
    before = torch.get_num_threads()
    torch.set_num_threads(workload.threads)
    yield
    torch.set_num_threads(before)
