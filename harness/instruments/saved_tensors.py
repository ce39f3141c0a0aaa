"""What autograd keeps for the backward pass, through saved-tensor hooks.

Counts unique storages that are held when ``held()`` is called, so a tensor that two
operators save counts once and one that was dropped again does not count. Views count with
their whole storage: that is what stays in memory.
"""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Saved(NamedTuple):
    """One storage that autograd holds."""

    address: int
    size_bytes: int
    module: str
    """Module whose forward saved it first; the empty name is the network itself."""


class _Held:
    """Keeps a saved tensor alive exactly as long as autograd keeps this object."""

    __slots__ = ("__weakref__", "module", "tensor")

    def __init__(self, tensor: Tensor, module: str) -> None:
        # Detached: to hold an operator's own output would make it keep itself alive.
        self.tensor = tensor.detach()
        self.module = module


class SavedTensors:
    """Watches what is saved while its context lasts."""

    def __init__(self, on_save: Callable[[int], object] | None = None) -> None:
        """Tell ``on_save`` the address of each tensor's storage as it is saved."""
        self._on_save = on_save
        self._held: list[weakref.ref[_Held]] = []
        self._modules = [""]

    @contextmanager
    def watch(self, model: nn.Module | None = None) -> Iterator["SavedTensors"]:
        """Watch autograd, and ``model``'s modules for their names, until the context ends."""
        handles = []
        for name, module in model.named_modules() if model is not None else ():
            before = module.register_forward_pre_hook(
                lambda *_, name=name: self._modules.append(name)
            )
            after = module.register_forward_hook(lambda *_: self._leave(), always_call=True)
            handles += [before, after]
        try:
            with torch.autograd.graph.saved_tensors_hooks(self._pack, _unpack):
                yield self
        finally:
            for handle in handles:
                handle.remove()

    def _leave(self) -> None:
        self._modules.pop()

    def _pack(self, tensor: Tensor) -> _Held:
        held = _Held(tensor, self._modules[-1])
        self._held.append(weakref.ref(held))
        if self._on_save is not None:
            self._on_save(held.tensor.untyped_storage().data_ptr())
        return held

    def held(self) -> list[Saved]:
        """Return the unique storages that autograd holds now, in the order they were saved."""
        found: dict[int, Saved] = {}
        for reference in self._held:
            held = reference()
            if held is None:
                continue
            storage = held.tensor.untyped_storage()
            if storage.nbytes():
                address = storage.data_ptr()
                found.setdefault(address, Saved(address, storage.nbytes(), held.module))
        return list(found.values())


def _unpack(held: _Held) -> Tensor:
    return held.tensor
