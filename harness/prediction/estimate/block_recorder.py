"""Records when each block of a step is allocated and freed, and in which module.

A new storage is recorded as an allocated block. The block is recorded as freed when a weak
reference reports that the storage no longer exists.
"""

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from harness.instruments.allocation_trace import storages_of
from harness.instruments.forward_hooks import Forward, LayerOutputs, on_stack
from harness.instruments.saved_tensors import Saved, saved_metrics
from harness.schema.events import Event, Trace
from harness.schema.metrics import Layer

_aten = torch.ops.aten
_PRODUCTS = {
    _aten.mm.default,
    _aten.addmm.default,
    _aten.bmm.default,
    _aten.baddbmm.default,
    _aten.convolution.default,
}


def check_types(operator: Any, operands: tuple[Any, ...]) -> None:
    """Raise an error if the operands of a matmul or convolution have different dtypes."""
    if operator not in _PRODUCTS:
        return
    types = [one.dtype for one in operands[:3] if isinstance(one, Tensor)]
    if len(set(types)) > 1:
        names = ", ".join(str(kind).removeprefix("torch.") for kind in types)
        raise RuntimeError(f"{operator}: the operands must have the same dtype, got {names}")


@dataclass(slots=True, eq=False)
class OpenBlock:
    """A recorded block with its operator and its module; its category can be set later."""

    number: int
    size_bytes: int
    operator: str
    module: str
    category: str = "temporary"
    reference: "weakref.ref[Any] | None" = None


class BlockRecorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records allocations and frees; subclasses pass each operator's results to ``see``."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.step = 0
        self.phase = "build"
        self.is_built = False
        """True after the network is built."""
        self.modules = [""]
        self._on_stack = on_stack(self.modules)
        self.live_bytes = 0
        self.notes: dict[str, None] = {}
        self._outputs = LayerOutputs()
        self._kept: set[int] = set()
        """Addresses of the storages of parameters and buffers."""
        self._inputs: set[int] = set()
        self._savers: dict[int, Saved] = {}
        self._saved: list[Saved] = []
        self._alive: dict[int, OpenBlock] = {}
        self._rows: list[tuple[int, str, int, OpenBlock]] = []
        self._count = 0
        self._is_open = True

    def see(self, tensor: Tensor, operator: str) -> None:
        """Record each storage of the tensor that is new or has a new size."""
        for storage in storages_of(tensor):
            key, size = storage._cdata, storage.nbytes()
            known = self._alive.get(key)
            if known is not None and known.size_bytes != size:
                self._ended(key, known)
            elif known is not None:
                continue
            if size:
                self._begin(storage, operator)

    def is_backward(self) -> bool:
        """Return whether autograd is running a backward pass."""
        return torch._C._current_graph_task_id() != -1

    def _begin(self, storage: torch.UntypedStorage, operator: str) -> None:
        """Record that a storage is allocated, and later that it is freed."""
        key, block = storage._cdata, self.write(storage.nbytes(), operator)

        def gone(_: object) -> None:
            if self._alive.get(key) is block:
                self._ended(key, block)

        block.reference = weakref.ref(storage, gone)
        self._alive[key] = block

    def _ended(self, key: int, block: OpenBlock) -> None:
        del self._alive[key]
        self._savers.pop(key, None)  # another storage may get its address
        self.end(block)

    def write(self, size: int, operator: str) -> OpenBlock:
        """Record the allocation of a block, and return the block."""
        self._count += 1
        block = OpenBlock(self._count, size, operator, self.modules[-1])
        self._rows.append((self.step, self.phase, size, block))
        self.live_bytes += size
        return block

    def end(self, block: OpenBlock) -> None:
        """Record that a block is freed."""
        if self._is_open:
            self._rows.append((self.step, self.phase, -block.size_bytes, block))
            self.live_bytes -= block.size_bytes

    def operator_of(self, tensor: Tensor) -> str:
        """Return the operator that allocated the tensor, or an empty string if it is unknown."""
        block = self._alive.get(tensor.untyped_storage()._cdata)
        return "" if block is None else block.operator

    def mark(self, tensors: Iterable[Tensor], category: str, module: str = "") -> None:
        """Set the category and the module of the tensors' blocks, if they have no category yet."""
        for tensor in tensors:
            for storage in storages_of(tensor):
                if category == "parameter":
                    self._kept.add(storage._cdata)
                elif category == "input":
                    self._inputs.add(storage._cdata)
                block = self._alive.get(storage._cdata)
                if block is not None and block.category == "temporary":
                    block.category = category
                    block.module = module or block.module

    @contextmanager
    def announce(self, phase: str) -> Iterator[None]:
        """Set the phase of later blocks; blocks have no module until a module is called."""
        self.phase = phase
        self.modules[0] = ""
        if phase == "forward":
            self._savers.clear()
        yield
        if phase == "forward":
            self._saved = [saved for key, saved in self._savers.items() if key in self._alive]

    def named(self, name: str, forward: Forward) -> Forward:
        """Return a wrapper of a module's ``forward`` that records the module's name and outputs."""
        return self._on_stack(name, self._outputs.named(name, forward))

    def pack(self, tensor: Tensor) -> tuple[Tensor, str]:
        """Mark a saved tensor as an activation; return the tensor and the running module's name."""
        module = self.modules[-1]
        self.mark([tensor], "activation")
        for storage in storages_of(tensor):
            saved = Saved(storage._cdata, storage.nbytes(), module)
            self._savers.setdefault(storage._cdata, saved)
        with torch._C.DisableTorchFunction():
            return tensor.detach(), module

    def unpack(self, packed: tuple[Tensor, str]) -> Tensor:
        """Return the saved tensor; in a backward pass, set the current module to the saved name."""
        tensor, module = packed
        if len(self.modules) == 1 and self.is_backward():
            self.modules[0] = module
        return tensor

    def close(self) -> None:
        """Stop recording, so that the frees when the estimate ends are not part of the trace."""
        self._is_open = False

    def trace(self) -> Trace:
        """Return all recorded events as a trace."""
        events = [
            Event(step, phase, b.operator, b.module, b.category, size, b.number)
            for step, phase, size, b in self._rows
        ]
        return Trace(events, steps=self.step)

    def saved(self) -> dict[str, Any]:
        """Return the metrics of the tensors that are saved at the end of the forward pass."""
        return saved_metrics(self._saved, self._kept, self._inputs)

    def layers(self, model: nn.Module, trace: Trace) -> tuple[Layer, ...]:
        """Return a row per module of ``model``; modules that ran come first, in execution order."""
        rows = self._outputs.rows(model, trace, self.saved()["modules"])
        return tuple(Layer(**row) for row in rows)
