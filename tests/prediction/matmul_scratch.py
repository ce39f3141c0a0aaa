"""Traces without what 16-bit matmuls allocate for themselves, which no prediction has.

A block that is freed at once may also be a result: so both sides of a comparison leave it out.
"""

from dataclasses import replace
from itertools import pairwise

from harness.schema.events import Trace
from harness.schema.workload import Workload


def without_scratch(trace: Trace, workload: Workload) -> Trace:
    """Leave out blocks that a matmul of a 16-bit type frees with its very next event."""
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
