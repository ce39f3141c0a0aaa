"""Fake tensors as in GPUMemNet's scripts, with forward and backward pass, but no optimizer.

Each storage that an operator returns is counted until it is freed.
"""

import weakref
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.witnesses.rows import RefusedError, Row


class _Counted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode that adds up the bytes of live storages."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live_bytes: int = 0
        self.peak_bytes: int = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        results = func(*args, **(kwargs or {}))
        for result in tree_leaves(results):
            if isinstance(result, torch.Tensor):
                self._count(result.untyped_storage())
        return results

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._seen:
            return
        self._seen.add(key)
        size = storage.nbytes()
        self.live_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        weakref.finalize(storage, self._freed, key, size)

    def _freed(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.live_bytes -= size


def predict(row: Row) -> int:
    """Return the largest sum of storages in a forward and a backward pass."""
    if row.training is None:
        raise RefusedError("needs a network, not a script")
    training = row.training()
    with FakeTensorMode(), _Counted() as counted:
        model = training.network()
        x, _ = training.example(training.batch)
        model(x.requires_grad_()).sum().backward()
    return int(counted.peak_bytes)
