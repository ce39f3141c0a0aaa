"""What a step allocates on the CPU, written down while it runs on fake tensors.

Fake tensors have shapes, types and storages, but no memory. A dispatch mode sees each operator's
results; a storage seen for the first time is a block allocated, and its end, reported by a weak
reference, is the block freed. Time is linear in the number of operators.

Source: torch/_subclasses/fake_tensor.py; torch/utils/_python_dispatch.py.
"""

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from harness.instruments import tensor_roles
from harness.instruments.forward_hooks import Forward
from harness.prediction.module import cpu_recurrent
from harness.prediction.module.layer_table import LayerLog
from harness.prediction.module.operand_types import check_types
from harness.schema.events import Event, Trace
from harness.training.nested_tensors import tensors

INITIALISER = "the building read a number from a tensor; 0 was answered"


class CopiedFakeMode(FakeTensorMode):  # type: ignore[no-untyped-call]
    """A fake mode that copies of its tensors share, as those of a copied layer."""

    def __deepcopy__(self, memo: object) -> "CopiedFakeMode":
        return self


class _Storage:
    """A storage that was seen: what allocated it, its category still open."""

    __slots__ = ("category", "module", "number", "operator", "reference", "size")

    def __init__(self, number: int, size: int, operator: str, module: str) -> None:
        self.number = number
        self.size = size
        self.operator = operator
        self.module = module
        self.category = "temporary"
        self.reference: weakref.ref[Any] | None = None


class CpuLedger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down each storage's beginning and end."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.step = 0
        self.phase = "build"
        self.modules = [""]
        self.notes: list[str] = []
        self._alive: dict[int, _Storage] = {}
        self._sizes: dict[int, int] = {}
        """Bytes of storages that do not know their own."""
        self._rows: list[tuple[int, str, int, _Storage]] = []
        self._count = 0
        self._open = True
        self.layers = LayerLog()
        self._kept: set[int] = set()
        """Storages of parameters and buffers, which exist anyway."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.phase == "build" and func is torch.ops.aten._local_scalar_dense.default:
            # An initialiser asks whether to draw again: no. No size depends on it.
            self.notes.append(INITIALISER)
            return 0
        check_types(func, args)
        result = func(*args, **(kwargs or {}))
        for tensor in (result,) if isinstance(result, Tensor) else tensors(result):
            self.see(tensor, func.name())
        if func is cpu_recurrent.LAYER:
            self._keep_workspace(args, result[cpu_recurrent.WORKSPACE])
        return result

    def _keep_workspace(self, args: Any, workspace: Tensor) -> None:
        """Write down a workspace, of which a fake tensor does not know the size."""
        size, storage = cpu_recurrent.workspace_bytes(args), workspace.untyped_storage()
        if size:
            self._sizes[storage._cdata] = size
            self.see(workspace, cpu_recurrent.LABEL)

    def see(self, tensor: Tensor, operator: str) -> None:
        """Write down the tensor's storages, where they are new or of a new size."""
        for storage in tensor_roles.storages(tensor):
            key = storage._cdata
            size = self._sizes.get(key) or storage.nbytes()
            known = self._alive.get(key)
            if known is not None and known.size == size:
                continue
            if known is not None:
                self._end(key, known)
            if size:
                self._take(key, storage, size, operator)

    def _take(self, key: int, storage: torch.UntypedStorage, size: int, operator: str) -> None:
        block = self._write(size, operator)

        def gone(_: object) -> None:
            if self._open and self._alive.get(key) is block:
                self._end(key, block)

        block.reference = weakref.ref(storage, gone)
        self._alive[key] = block

    def _write(self, size: int, operator: str) -> _Storage:
        self._count += 1
        block = _Storage(self._count, size, operator, self.modules[-1])
        self._rows.append((self.step, self.phase, size, block))
        return block

    def _end(self, key: int, block: _Storage) -> None:
        del self._alive[key]
        self._sizes.pop(key, None)
        self._rows.append((self.step, self.phase, -block.size, block))

    def mark(self, tensors: Iterable[Tensor], category: str, module: str = "") -> None:
        """State what the tensors are, and whose; the first statement holds."""
        for tensor in tensors:
            for storage in tensor_roles.storages(tensor):
                if category == "parameter":
                    self._kept.add(storage._cdata)
                block = self._alive.get(storage._cdata)
                if block is not None and block.category == "temporary":
                    block.category = category
                    block.module = module or block.module

    @contextmanager
    def announce(self, phase: str) -> Iterator[None]:
        """Write what follows under ``phase``."""
        self.phase = phase
        if phase == "forward":
            self.layers.begin_step()
        yield
        if phase == "forward":
            self.layers.end_forward(self._alive)

    def named(self, name: str, forward: Forward) -> Forward:
        """Stand in for a module's forward."""

        def run(*args: Any, **kwargs: Any) -> Any:
            self.modules.append(name)
            if self.phase == "forward":
                self.layers.enter(name)
            try:
                output = forward(*args, **kwargs)
            finally:
                self.modules.pop()
            self.layers.returned(name, output)
            return output

        return run

    def pack(self, tensor: Tensor) -> "tuple[Tensor, str]":
        """Mark what autograd saves; keep the module's name for the backward pass."""
        self.mark([tensor], "activation")
        self.layers.saved(self.modules[-1], tensor, self._kept)
        return tensor.detach(), self.modules[-1]

    def unpack(self, packed: "tuple[Tensor, str]") -> Tensor:
        """Free what autograd saved; its module is the one whose backward runs."""
        tensor, module = packed
        if self.phase == "backward" and len(self.modules) == 1:
            self.modules[0] = module
        return tensor

    def close(self) -> None:
        """Write no more: what ends from here on ends with the prediction."""
        self._open = False

    def trace(self) -> Trace:
        """Return what was written down."""
        events = [
            Event(step, phase, b.operator, b.module, b.category, size, b.number)
            for step, phase, size, b in self._rows
        ]
        return Trace(events, steps=self.step)
