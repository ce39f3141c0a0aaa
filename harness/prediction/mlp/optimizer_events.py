"""Writes the events of optimizer steps, in the for-loop and foreach implementations.

An in-place update allocates nothing. A Python number that is combined with a tensor becomes an
8-byte float64 tensor and is cast to the tensor's dtype. In an optimizer step, only Adam's
denominator needs temporary blocks of a parameter's size.

Source: torch/optim/sgd.py, adam.py, adamw.py; the multi-tensor ("foreach") form runs the slow path
of aten/src/ATen/native/ForeachOpsKernels.cpp on the CPU, one tensor at a time.
"""

from collections.abc import Sequence

from harness.prediction.mlp.activations import wrapped_number
from harness.prediction.mlp.formula import DTYPE_BYTES, STEP_BYTES
from harness.prediction.mlp.trace_writer import TraceWriter
from harness.schema.events import Event
from harness.schema.workload import Workload

_NAMES = {"momentum": "SGD", "adam": "Adam", "adamw": "AdamW"}


class Optimizer:
    """Writes the events of one optimizer's steps."""

    def __init__(self, writer: TraceWriter, workload: Workload, sizes: Sequence[int]) -> None:
        self._writer = writer
        self._kind = workload.optimizer
        # "auto" is so on CUDA alone (torch/optim/optimizer.py, _default_to_fused_or_foreach).
        self._foreach = workload.foreach == "on"
        self._sizes = sizes
        self._element_bytes = DTYPE_BYTES[workload.dtype]
        self._first = True
        self._prefix = f"Optimizer.step#{_NAMES.get(workload.optimizer)}.step"

    def step(self) -> None:
        """Write the events of one step; the first step also allocates the state."""
        first, self._first = self._first, False
        if self._kind == "momentum":
            self._momentum(first)
        elif self._kind in ("adam", "adamw"):
            zeros = f"{self._prefix}/aten::zeros_like/aten::empty_like/aten::empty_strided"
            counter = (STEP_BYTES, f"{self._prefix}/aten::empty", "optimizer_state")
            for size in self._sizes if first else ():
                self._writer.allocate(*counter)
                for _ in ("exp_avg", "exp_avg_sq"):
                    self._writer.allocate(size, zeros, "optimizer_state")
            if self._foreach:
                self._adam_foreach()
            else:
                self._adam()

    def _momentum(self, first: bool) -> None:
        """Write ``buf = clone(grad)`` in step 1, later ``buf.mul_(momentum).add_(grad)``."""
        if first:
            for size in self._sizes:
                operator = f"{self._prefix}/aten::clone/aten::empty_strided"
                self._writer.allocate(size, operator, "optimizer_state")
        elif self._foreach:
            self._each("mul_", "mul")
        else:
            for _ in self._sizes:
                self._scalar("mul_")

    def _adam(self) -> None:
        """Write all updates; a denominator is freed after the next denominator's allocation."""
        writer, prefix = self._writer, self._prefix
        before: Event | None = None
        for size in self._sizes:
            self._scalar("add_", STEP_BYTES)
            if self._kind == "adamw":
                self._scalar("mul_")
            self._scalar("mul_")
            root = writer.allocate(size, f"{prefix}/aten::sqrt")
            wrapped = wrapped_number(prefix, f"{prefix}/aten::div", self._element_bytes)
            number = [writer.allocate(*block) for block in wrapped]
            denominator = writer.allocate(size, f"{prefix}/aten::div")
            writer.free(*reversed(number), root)
            self._scalar("add_")
            writer.free(before)
            before = denominator
        writer.free(before)

    def _adam_foreach(self) -> None:
        """Write each operation for all parameters, so all denominators exist at once."""
        writer, prefix = self._writer, self._prefix
        writer.scratch((STEP_BYTES, f"{prefix}/aten::empty"))
        if self._kind == "adamw":
            self._each("mul_", "mul")
        self._each("mul_", "mul")
        root = f"{prefix}/aten::_foreach_sqrt/aten::sqrt"
        roots = [writer.allocate(size, root) for size in self._sizes]
        self._each("div_", "div_")
        self._each("add_", "add_")
        writer.free(*reversed(roots))

    def _each(self, name: str, inner: str) -> None:
        """Write the foreach operation ``name`` with a Python number."""
        operator = f"{self._prefix}/aten::_foreach_{name}/aten::{name}"
        number = wrapped_number(operator, f"{operator}/aten::{inner}", self._element_bytes)
        for _ in self._sizes:
            self._writer.scratch(*number)

    def _scalar(self, name: str, element_bytes: int | None = None) -> None:
        """Write the in-place operation ``name`` with a Python number."""
        size = element_bytes or self._element_bytes
        number = wrapped_number(self._prefix, f"{self._prefix}/aten::{name}", size)
        self._writer.scratch(*number)
