"""What a step allocates, block by block: when each began and ended, and in whose forward pass.

A storage seen for the first time is a block allocated, and its end, reported by a weak
reference, is the block freed.
"""

import weakref
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from harness.instruments.forward_hooks import Forward
from harness.instruments.tensor_roles import storages
from harness.prediction.module.layer_table import LayerLog
from harness.schema.events import Event, Trace


@dataclass(slots=True, eq=False)
class LoggedBlock:
    """A block: what allocated it, and what it is, its category still open."""

    number: int
    size_bytes: int
    operator: str
    module: str
    category: str = "temporary"
    reference: "weakref.ref[Any] | None" = None


class BlockLog(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down each block's beginning and end; a mode that sees the operators feeds it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.step = 0
        self.phase = "build"
        self.modules = [""]
        self.live_bytes = 0
        self.layers = LayerLog()
        self._alive: dict[int, LoggedBlock] = {}
        self._sizes: dict[int, int] = {}
        """Bytes of storages that do not know their own."""
        self._rows: list[tuple[int, str, int, LoggedBlock]] = []
        self._count = 0
        self._open = True
        self._kept: set[int] = set()
        """Storages of parameters and buffers, which exist anyway."""

    @abstractmethod
    def is_forward(self) -> bool:
        """Return whether a module that is called now is called by the forward pass."""

    @abstractmethod
    def is_backward(self) -> bool:
        """Return whether what is unpacked now is unpacked by the backward pass."""

    def is_known(self, storage: torch.UntypedStorage) -> bool:
        """Return whether a storage is written down; one of another size ends there."""
        known = self._alive.get(storage._cdata)
        if known is None or known.size_bytes == self.size_of(storage):
            return known is not None
        self._ended(storage._cdata, known)
        return False

    def size_of(self, storage: torch.UntypedStorage) -> int:
        """Return the bytes of a storage."""
        return self._sizes.get(storage._cdata) or storage.nbytes()

    def begin(self, storage: torch.UntypedStorage, operator: str) -> None:
        """Write down a storage, if it has any bytes, and its end when it comes."""
        key, size = storage._cdata, self.size_of(storage)
        if not size:
            return
        block = self.write(size, operator)

        def gone(_: object) -> None:
            if self._alive.get(key) is block:
                self._ended(key, block)

        block.reference = weakref.ref(storage, gone)
        self._alive[key] = block

    def _ended(self, key: int, block: LoggedBlock) -> None:
        del self._alive[key]
        self._sizes.pop(key, None)
        self.end(block)

    def write(self, size: int, operator: str) -> LoggedBlock:
        """Write down that a block begins."""
        self._count += 1
        block = LoggedBlock(self._count, size, operator, self.modules[-1])
        self._rows.append((self.step, self.phase, size, block))
        self.live_bytes += size
        return block

    def end(self, block: LoggedBlock) -> None:
        """Write down that a block ends."""
        if self._open:
            self._rows.append((self.step, self.phase, -block.size_bytes, block))
            self.live_bytes -= block.size_bytes

    def mark(self, tensors: Iterable[Tensor], category: str, module: str = "") -> None:
        """State what the tensors are, and whose; the first statement holds."""
        for tensor in tensors:
            for storage in storages(tensor):
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
            if self.is_forward():
                self.layers.enter(name)
            try:
                output = forward(*args, **kwargs)
            finally:
                self.modules.pop()
            self.layers.returned(name, output)
            return output

        return run

    def pack(self, tensor: Tensor) -> tuple[Tensor, str]:
        """Mark what autograd saves; keep the module's name for the backward pass."""
        self.mark([tensor], "activation")
        self.layers.saved(self.modules[-1], tensor, self._kept)
        with torch._C.DisableTorchFunction():
            return tensor.detach(), self.modules[-1]

    def unpack(self, packed: tuple[Tensor, str]) -> Tensor:
        """Return what autograd saved; its module is the one whose backward runs."""
        tensor, module = packed
        if len(self.modules) == 1 and self.is_backward():
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
