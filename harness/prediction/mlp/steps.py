"""The build of a workload and its steps, written one after another on a writer."""

from harness.prediction.mlp import network
from harness.prediction.mlp.checkpoint import Checkpointed
from harness.prediction.mlp.formula import input_bytes, label_bytes, micro_batches
from harness.prediction.mlp.layers import Layers
from harness.prediction.mlp.network import Passes, Plain
from harness.prediction.mlp.optimizer_events import Optimizer
from harness.prediction.mlp.trace_writer import Place, TraceWriter
from harness.schema.events import Event
from harness.schema.workload import Workload


class Steps:
    """Writes a workload's build, then as many steps as asked for."""

    def __init__(self, writer: TraceWriter, workload: Workload, layers: Layers) -> None:
        self._writer = writer
        self._workload = workload
        self._kernels = layers.kernels
        self._layers = layers
        self._passes = _passes(self._layers, workload)
        # "auto" is so on CUDA alone (torch/optim/optimizer.py, _default_to_fused_or_foreach).
        setting = (workload.foreach, workload.device)
        uses_foreach = workload.foreach == "on" or setting == ("auto", "cuda")
        self._optimizer = Optimizer(
            writer,
            workload.optimizer,
            uses_foreach,
            self._layers.parameter_sizes,
            self._layers.parameter_element_bytes,
        )
        self._written: tuple[Place, Place, list[Event | None]] | None = None
        self._shift = 0

    def build(self) -> None:
        """Write the parameters and the batch."""
        self._layers.build()
        self._writer.allocate(input_bytes(self._workload), "aten::empty", "input")
        if self._workload.mode == "train":
            self._writer.allocate(label_bytes(self._workload), "aten::empty", "input")

    def step(self, rows: int | None = None) -> None:
        """Write one more step: gradients dropped, passes, update; or a pass without autograd."""
        self._writer.next_step()
        if self._workload.mode == "inference":
            self._writer.begin("forward")
            network.predict(self._layers, rows or self._workload.batch)
            return
        self._drop_gradients()
        if rows is None:
            self._forward_and_backward()
        else:
            self._written, self._shift = None, 0
            self._write_passes(rows)
        self._writer.begin("optimizer")
        self._optimizer.step()

    def _drop_gradients(self) -> None:
        """Write that the gradients of the step before go, under the numbers that it gave them."""
        if self._written is not None and self._shift:
            self._layers.gradients = [
                held and held._replace(address=held.address + self._shift)
                for held in self._written[2]
            ]
        self._layers.zero_grad()

    def _forward_and_backward(self) -> None:
        """Write the passes; once they took nothing to stay, as they were written before."""
        if self._written is not None:
            start, stop, _ = self._written
            self._shift = self._writer.repeat(start, stop)
            return
        start, kept = self._writer.here(), self._kernels.kept_bytes
        self._write_passes(self._workload.batch)
        if self._kernels.kept_bytes == kept:
            self._written = start, self._writer.here(), list(self._layers.gradients)

    def _write_passes(self, batch: int) -> None:
        parts = self._workload.accumulate
        for rows in micro_batches(batch, parts):
            network.train(self._layers, self._passes, rows, parts)


def _passes(layers: Layers, workload: Workload) -> Passes:
    if workload.checkpoint:
        return Checkpointed(layers, workload.checkpoint)
    return Plain(layers)
