"""Observes the tensors that autograd saves for the backward pass, with saved-tensor hooks.

``held()`` returns the storages that autograd keeps at the time of the call, without duplicates. A
tensor that two operators save is counted once, and a freed tensor is not counted. For a view, the
whole storage is counted, because the whole storage stays in memory.
"""

import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from harness.instruments.allocation_trace import storages_of
from harness.instruments.forward_hooks import ROOT
from harness.schema.errors import UnsupportedError

_UNSEEN = (
    "the step calls torch.func, under which PyTorch lets nobody see what autograd saves; harness"
    " dry-run answers for a script"
)


class Saved(NamedTuple):
    """Storage that autograd keeps for the backward pass."""

    address: int
    size_bytes: int
    module: str
    """Module whose forward pass saved the storage first; an empty name means the whole network."""


class _Held:
    """Keeps a saved tensor alive exactly as long as autograd keeps this object."""

    __slots__ = ("__weakref__", "address", "module", "tensor")

    def __init__(self, tensor: Tensor, module: str) -> None:
        # Not the tensor itself: to hold an operator's own output would make it keep itself
        # alive. ``data`` is no operator, so the profiler has nothing to record.
        plain = type(tensor) is Tensor or type(tensor) is Parameter
        self.tensor = held = tensor.data if plain else tensor.detach()
        self.address = next((storage.data_ptr() for storage in storages_of(held)), 0)
        self.module = module


class SavedTensors:
    """Observes the tensors that autograd saves while ``watch`` is active."""

    def __init__(
        self,
        on_save: Callable[[int], object] | None = None,
        on_unpack: Callable[[], object] | None = None,
    ) -> None:
        """Set the functions to call when autograd saves or uses a tensor.

        ``on_save`` is called with the address of each newly saved storage. ``on_unpack`` is called
        before autograd uses a saved tensor.
        """
        self._on_save = on_save
        self._on_unpack = on_unpack
        self._held: list[weakref.ref[_Held]] = []
        self._known: dict[int, weakref.ref[_Held]] = {}
        self.modules = [""]
        """Names of the modules whose forward pass is running, innermost last."""
        self.most: list[Saved] = []
        """Storages that autograd kept when ``keep_most`` found the largest total size."""

    @contextmanager
    def watch(self) -> Iterator["SavedTensors"]:
        """Observe autograd inside the ``with`` block."""
        with torch.autograd.graph.saved_tensors_hooks(self._pack, self._unpack):
            try:
                yield self
            except RuntimeError as error:
                if "support saved tensor hooks" in str(error):
                    raise UnsupportedError(_UNSEEN) from error
                raise

    def _pack(self, tensor: Tensor) -> _Held:
        held = _Held(tensor, self.modules[-1])
        reference = weakref.ref(held)
        self._held.append(reference)
        if self._on_save is not None:
            address = held.address
            known = self._known.get(address)
            if known is None or known() is None:
                self._known[address] = reference
                self._on_save(address)
        return held

    def _unpack(self, held: _Held) -> Tensor:
        if self._on_unpack is not None:
            self._on_unpack()
        return held.tensor

    def held(self) -> list[Saved]:
        """Return the storages that autograd keeps now, each only once, in the order of saving."""
        storages: dict[int, Saved] = {}
        alive = [(reference, held) for reference in self._held if (held := reference())]
        self._held = [reference for reference, _ in alive]
        for _, held in alive:
            for storage in storages_of(held.tensor):
                if storage.nbytes():
                    address = storage.data_ptr()
                    storages.setdefault(address, Saved(address, storage.nbytes(), held.module))
        return list(storages.values())

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Call ``keep_most`` at the end of the ``with`` block, if the phase is a forward pass."""
        yield
        if name == "forward":
            self.keep_most()

    def keep_most(self) -> None:
        """Update ``most`` if the storages that autograd keeps now have a larger total size."""
        self.most = max(self.most, self.held(), key=lambda saved: sum(s.size_bytes for s in saved))


def saved_metrics(
    held: Sequence[Saved], parameters: Collection[int], inputs: Collection[int]
) -> dict[str, Any]:
    """Return metrics of saved bytes; ``parameters`` and ``inputs`` are storage addresses."""
    counted = [saved for saved in held if saved.address not in parameters]
    total = sum(saved.size_bytes for saved in counted)
    of_input = sum(saved.size_bytes for saved in counted if saved.address in inputs)
    modules: dict[str, int] = {}
    for saved in counted:
        name = saved.module or ROOT
        modules[name] = modules.get(name, 0) + saved.size_bytes
    return {
        "saved_bytes": total,
        "saved_input_bytes": of_input,
        "saved_activation_bytes": total - of_input,
        "modules": {name: {"saved_bytes": size} for name, size in modules.items()},
    }
