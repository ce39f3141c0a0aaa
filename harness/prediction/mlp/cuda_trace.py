"""The events of a workload's build and steps as CUDA's kernels and PyTorch's engine make them."""

import sys

from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.gpu.simulation import Requests, by_phase
from harness.prediction.interpreter_state import collection_paused
from harness.prediction.mlp.autocast import CudaAutocastLayers
from harness.prediction.mlp.cpu_trace import Steps, UnsupportedWorkloadError, why_refused
from harness.prediction.mlp.kernels import CudaKernels
from harness.prediction.mlp.layers import Layers
from harness.prediction.mlp.trace_writer import TraceWriter
from harness.schema.events import Trace
from harness.schema.workload import MAX_ELEMENTS, MAX_SIZE, Workload

_MOST_ELEMENTS = 2**31 - 1
"""Beyond, batch normalization runs other kernels (``batch_norm_choose_impl``)."""


def most_rows(workload: Workload) -> int:
    """Return the largest batch of ``workload`` that can be described and predicted."""
    layers = (workload.in_features, *workload.widths, workload.classes)
    most = min(MAX_SIZE, MAX_ELEMENTS // sum(layers))
    return min(most, _MOST_ELEMENTS // max(workload.widths)) if workload.norm == "batch" else most


class CudaSteps:
    """Writes the build and the steps of ``workload`` on ``gpu``, as many as asked for."""

    last_step = sys.maxsize

    def __init__(self, workload: Workload, gpu: Gpu) -> None:
        if reason := why_refused(workload):
            raise UnsupportedWorkloadError(reason)
        if workload.norm == "batch" and workload.batch > most_rows(workload):
            raise UnsupportedWorkloadError(
                "batch normalization of more than 2^31 - 1 elements on CUDA"
            )
        self._writer = TraceWriter(with_host=False)
        self._kernels = CudaKernels(self._writer, gpu)
        kind = CudaAutocastLayers if workload.autocast else Layers
        self._steps = Steps(self._writer, workload, kind(self._writer, workload, self._kernels))
        self._requests: list[Requests] = []

    @property
    def workspace_bytes(self) -> int:
        """Bytes of all workspaces that the steps so far left behind."""
        return self._kernels.kept_bytes

    def trace(self, steps: int) -> Trace:
        """Return the events of the build and the first ``steps``, the last the measured one."""
        self.requests(steps)
        events = [event for event in self._writer.events if event.step <= steps]
        return Trace(events, steps=steps)

    @property
    def event_count(self) -> int:
        """Number of blocks that the first step allocates and frees."""
        return sum(len(events) for _, events in self.requests(1))

    def requests(self, step: int) -> Requests:
        """Return what ``step`` (0 is the build) asks of the allocator, phase by phase."""
        while len(self._requests) <= step:
            self._requests.append(self._write())
        return self._requests[step]

    def _write(self) -> Requests:
        start = len(self._writer.events)
        with collection_paused():
            if self._requests:
                self._steps.step()
            else:
                self._steps.build()
            requests = by_phase(self._writer.events[start:])
        if requests[-1][0] != self._writer.phase:  # an update that allocates nothing
            requests.append((self._writer.phase, []))
        return requests
