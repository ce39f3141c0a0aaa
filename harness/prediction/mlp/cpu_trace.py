"""The event sequence of a workload's build and steps, derived without running anything."""

from harness.prediction.mlp.autocast import AutocastLayers
from harness.prediction.mlp.kernels import Kernels
from harness.prediction.mlp.layers import Layers
from harness.prediction.mlp.steps import Steps
from harness.prediction.mlp.trace_writer import TraceWriter
from harness.prediction.paused_collection import collection_paused
from harness.schema.events import Trace
from harness.schema.workload import Workload


def why_refused(workload: Workload) -> str | None:
    """Return why the events of ``workload`` are not predicted; None if they are.

    Each technique is predicted by itself. A combination needs events of its own, such as the casts
    that a segment which runs twice keeps; the dry run predicts a network of any combination.
    """
    is_stacked = workload.norm != "none" or workload.dropout > 0
    if workload.autocast is not None and (
        workload.dtype != "float32" or workload.checkpoint or is_stacked
    ):
        return (
            f"autocast {workload.autocast} can be predicted only with float32 parameters, without"
            " checkpoints, normalization and dropout"
        )
    if workload.checkpoint and is_stacked:
        return (
            f"checkpoint {workload.checkpoint} can be predicted only without normalization and"
            " dropout; `harness predict FILE.py:FUNCTION` predicts a network of your own"
        )
    return None


_WITH_SCRATCH = ("bfloat16", "float16")


class UnsupportedWorkloadError(ValueError):
    """The events of this workload cannot be predicted exactly; the message says why."""


def predict_trace(workload: Workload, *, without_scratch: bool = False) -> Trace:
    """Return the trace of the build and two steps (one in inference), as it would be measured.

    Addresses are running numbers of blocks. ``without_scratch`` leaves out what a 16-bit matmul
    allocates for itself: it depends on the processor, so such a workload is refused otherwise.
    """
    _check(workload, without_scratch=without_scratch)
    with collection_paused():
        writer = TraceWriter()
        kind = AutocastLayers if workload.autocast else Layers
        steps = Steps(writer, workload, kind(writer, workload, Kernels(writer)))
        steps.build()
        for _ in range(2 if workload.mode == "train" else 1):
            steps.step()
        return writer.trace()


def _check(workload: Workload, *, without_scratch: bool) -> None:
    if workload.device != "cpu":
        raise UnsupportedWorkloadError(
            f"device {workload.device}: only the CPU's allocator is predicted here"
        )
    if reason := why_refused(workload):
        raise UnsupportedWorkloadError(reason)
    dtype = workload.autocast or workload.dtype
    if dtype in _WITH_SCRATCH and not without_scratch:
        raise UnsupportedWorkloadError(
            f"dtype {dtype}: what its matmuls allocate for themselves depends on the processor "
            "and is not predicted"
        )
