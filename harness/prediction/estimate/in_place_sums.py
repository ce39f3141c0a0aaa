"""Gradients that autograd's engine adds to in place: those that nothing else holds.

The engine does so only while no dispatch mode is active; under one, the ledger does it in the
engine's stead.

Source: torch/csrc/autograd/input_buffer.cpp (``accumulate``).
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

ADD = torch.ops.aten.add.Tensor


class InPlaceSums:
    """Decides whether a sum of two gradients is made in place."""

    def __init__(self) -> None:
        counter = _CountAdditions()
        with torch._C.DisableTorchFunction():
            leaf = torch.empty(2, device="meta", requires_grad=True)
            used_twice = leaf * 2
            total = (used_twice * 2).sum() + (used_twice * 3).sum()
            with counter:
                total.backward()  # type: ignore[no-untyped-call]
        self._sole_owner = counter.counts[0] if counter.counts else (0, 0)

    def apply_to(self, first: Tensor, second: object, *others: object) -> bool:
        """Return whether the engine would add the second gradient to the first in place."""
        if others or not isinstance(second, Tensor) or torch.is_grad_enabled():
            return False
        if first.dtype != second.dtype or first.shape != second.shape:
            return False
        tensors, holders = _counts(first)
        most = self._sole_owner
        is_alone = tensors <= most[0] and holders <= most[1]
        return is_alone and bool(torch.ops.aten.is_non_overlapping_and_dense.default(first))


class _CountAdditions(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the reference counts of gradients that the engine adds up."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: list[tuple[int, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is ADD:
            self._note(*args)
        return func(*args, **(kwargs or {}))

    def _note(self, first: Tensor, *_: object) -> None:
        self.counts.append(_counts(first))


def _counts(tensor: Tensor) -> tuple[int, int]:
    """Return how many hold the tensor, and how many its storage."""
    storage = tensor.untyped_storage()
    held: Any = tensor
    return held._use_count(), torch._C._storage_Use_Count(storage._cdata)
