"""Predicts the allocator events of a workload, and the largest workload that fits."""

from collections.abc import Callable

from harness.prediction.interpreter_state import collection_paused
from harness.prediction.largest_value import largest_within
from harness.prediction.mlp import network
from harness.prediction.mlp.autocast import AutocastLayers
from harness.prediction.mlp.checkpoint import Checkpointed
from harness.prediction.mlp.formula import input_bytes, label_bytes, micro_batches
from harness.prediction.mlp.layers import MlpLayers
from harness.prediction.mlp.optimizer_events import Optimizer
from harness.prediction.mlp.trace_writer import TraceWriter
from harness.schema.events import Trace
from harness.schema.workload import MAX_DEPTH, MAX_SIZE, Workload

AXES = ("batch", "width", "depth")
_WITH_SCRATCH = ("bfloat16", "float16")


class UnsupportedWorkloadError(ValueError):
    """The events of this workload cannot be predicted exactly; the message says why."""


def why_refused(workload: Workload) -> str | None:
    """Return the reason why ``workload`` cannot be predicted; None if it can be predicted.

    A combination of autocast, checkpointing, normalization and dropout can have additional events,
    and is then refused. The dry run predicts every combination.
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


def predict_trace(workload: Workload, *, without_scratch: bool = False) -> Trace:
    """Predict the trace of building the network and running two training or one inference steps.

    Block addresses are numbers in allocation order. ``without_scratch`` leaves out the temporary
    blocks of 16-bit matmuls, which depend on the processor. By default, 16-bit matmuls are refused.
    """
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
    with collection_paused():
        writer = TraceWriter()
        kind = AutocastLayers if workload.autocast else MlpLayers
        steps = StepWriter(writer, workload, kind(writer, workload))
        steps.build()
        for _ in range(2 if workload.mode == "train" else 1):
            steps.step()
        return writer.trace()


class StepWriter:
    """Writes the events of building a workload, and of one step per call of ``step``."""

    def __init__(self, writer: TraceWriter, workload: Workload, layers: MlpLayers) -> None:
        self._writer = writer
        self._workload = workload
        self._layers = layers
        self._passes = (
            Checkpointed(layers, workload.checkpoint)
            if workload.checkpoint
            else network.Plain(layers)
        )
        self._optimizer = Optimizer(writer, workload, layers.parameter_sizes)

    def build(self) -> None:
        """Write the allocations of the parameters and of the batch."""
        self._layers.build()
        self._writer.allocate(input_bytes(self._workload), "aten::empty", "input")
        if self._workload.mode == "train":
            self._writer.allocate(label_bytes(self._workload), "aten::empty", "input")

    def step(self) -> None:
        """Write the events of the next training or inference step."""
        writer, parts = self._writer, self._workload.accumulate
        batch = self._workload.batch
        writer.next_step()
        if self._workload.mode == "inference":
            writer.phase = "forward"
            network.predict(self._layers, batch)
            return
        self._layers.zero_grad()
        for part in micro_batches(batch, parts):
            network.train(self._layers, self._passes, part, parts)
        writer.phase = "optimizer"
        self._optimizer.step()


def needed_bytes(workload: Workload) -> int:
    """Return the peak of live bytes in the trace that ``predict_trace`` returns."""
    return max(predict_trace(workload).live_bytes)


def axis_range(workload: Workload, axis: str) -> tuple[int, int]:
    """Return the smallest and the largest value of ``axis`` ("batch", "width" or "depth")."""
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
    """Return the largest value of ``axis`` ("batch", "width" or "depth") that fits the budget."""
    low, high = axis_range(workload, axis)
    return largest_within(
        lambda value: need(workload.replace(**{axis: value})), budget_bytes, low=low, high=high
    )
