"""Fit of a workload into a budget, and its largest batch, by its predicted trace."""

from collections.abc import Callable

from harness.prediction.largest_value import largest_within
from harness.prediction.mlp.cpu_trace import predict_trace
from harness.schema.workload import MAX_DEPTH, MAX_SIZE, Workload

AXES = ("batch", "width", "depth")


def needed_bytes(workload: Workload) -> int:
    """Return the most bytes alive at any moment of the build and two steps (one in inference)."""
    return max(predict_trace(workload).live_bytes)


def axis_range(workload: Workload, axis: str) -> tuple[int, int]:
    """Return the least and the most that ``axis`` ("batch", "width" or "depth") can be."""
    if axis not in AXES:
        raise ValueError(f"axis must be one of {', '.join(AXES)}, got {axis!r}")
    least = {"batch": workload.least_batch, "depth": max(1, workload.checkpoint), "width": 1}
    return least[axis], MAX_DEPTH if axis == "depth" else MAX_SIZE


def solve(
    workload: Workload,
    budget_bytes: int,
    axis: str,
    need: Callable[[Workload], int] = needed_bytes,
) -> int | None:
    """Return the largest ``axis`` ("batch", "width" or "depth") whose need fits the budget."""
    low, high = axis_range(workload, axis)
    return largest_within(
        lambda value: need(workload.replace(**{axis: value})), budget_bytes, low=low, high=high
    )
