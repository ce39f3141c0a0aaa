"""The event sequence of a workload's build and steps, derived without running anything."""

from harness.prediction.mlp.combinations import why_refused
from harness.prediction.mlp.cpu_kernels import CpuKernels
from harness.prediction.mlp.matmul import UnknownScratchError, scratch_of
from harness.prediction.mlp.steps import Steps
from harness.prediction.mlp.trace_writer import TraceWriter
from harness.prediction.paused_collection import collection_paused
from harness.schema.events import Trace
from harness.schema.workload import Workload


class UnsupportedWorkloadError(ValueError):
    """The events of this workload cannot be predicted exactly; the message says why."""


def predict_trace(workload: Workload, *, cpu_flags: frozenset[str] | None = None) -> Trace:
    """Return the trace of the build and two steps (one in inference), as it would be measured.

    Addresses are running numbers of blocks. Time and size are linear in depth. ``cpu_flags`` are
    the features of the processor that would run it; this machine's where not given.

    Raises:
        UnsupportedWorkloadError: the workload has a part that cannot be predicted here.

    """
    _check(workload)
    try:
        with collection_paused():
            return _write(workload, cpu_flags)
    except UnknownScratchError as error:
        raise UnsupportedWorkloadError(
            f"dtype {workload.autocast or workload.dtype}: {error}"
        ) from error


def _write(workload: Workload, cpu_flags: frozenset[str] | None) -> Trace:
    writer = TraceWriter()
    scratch = scratch_of(workload.autocast or workload.dtype, workload.threads, cpu_flags)
    steps = Steps(writer, workload, CpuKernels(writer, scratch))
    steps.build()
    for _ in range(2 if workload.mode == "train" else 1):
        steps.step()
    return writer.trace()


def _check(workload: Workload) -> None:
    if workload.device != "cpu":
        raise UnsupportedWorkloadError(
            f"device {workload.device}: only the CPU's allocator is predicted here"
        )
    if reason := why_refused(workload):
        raise UnsupportedWorkloadError(reason)
