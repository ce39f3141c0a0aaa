"""Large values on the CPU that are written only if something reads them.

A network of billions of parameters is built on the CPU and moved to a GPU. On a pretended GPU its
values decide nothing, and writing them takes most of the time and all of the memory. So inside
``deferred_values`` an initialiser of a large tensor is noted instead of run. Moving the tensor to a
GPU reads nothing there; any other operator runs what was noted first, in the order of the program,
so what ``__init__`` reads is right. Random numbers that are noted are drawn later than others.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

LARGE_BYTES = 1 << 20


def _operators(names: str) -> frozenset[str]:
    return frozenset(f"aten::{name}" for name in names.split())


_INITIALISERS = _operators(
    "normal_ uniform_ fill_ zero_ mul_ add_ sub_ div_ neg_ abs_ erfinv_ clamp_ clamp_min_ "
    "clamp_max_ exponential_ log_normal_ cauchy_ bernoulli_ random_"
)
_FACTORIES = _operators("ones full rand randn randint")
_READS_NOTHING = _operators(
    "detach alias view _unsafe_view _reshape_alias t transpose permute slice select unsqueeze "
    "squeeze as_strided expand narrow split chunk unbind empty_like zeros_like ones_like "
    "rand_like randn_like full_like new_empty new_zeros new_ones new_full is_same_size "
    "sym_size sym_stride sym_numel sym_storage_offset dim lift_fresh record_stream"
)


class deferred_values(TorchDispatchMode):  # type: ignore[no-untyped-call]  # noqa: N801
    """Notes the initialisers of large CPU tensors while the context lasts."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._noted: dict[int, list[Callable[[], object]]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Record an initialiser, or compute the values that the operator may read and run it."""
        del types
        given, name = kwargs or {}, func._schema.name
        if name in _INITIALISERS and _is_large(args[0]):
            self._run_noted(leaf for leaf in tree_leaves((args[1:], given)))
            self._note(args[0], lambda: func(*args, **given))
            return args[0]
        if name in _FACTORIES and "generator" not in given:
            return self._factory(func, args, given)
        if name not in _READS_NOTHING and not _moves_away(name, args, given):
            self._run_noted(tree_leaves((args, given)))
        return func(*args, **given)

    def _factory(self, func: Any, args: Any, given: dict[str, Any]) -> Any:
        """Make a large tensor without values; its factory fills it when it is read."""
        device = given.get("device")
        if device is not None and torch.device(device).type != "cpu":
            return func(*args, **given)
        with torch._subclasses.FakeTensorMode():
            shape = func(*args, **given)
        if shape.numel() * shape.element_size() < LARGE_BYTES:
            return func(*args, **given)
        made = torch.empty(shape.shape, dtype=shape.dtype)
        self._note(made, lambda: made.copy_(func(*args, **given)))
        return made

    def _note(self, tensor: Tensor, run: Callable[[], object]) -> None:
        self._noted.setdefault(tensor.untyped_storage()._cdata, []).append(run)

    def _run_noted(self, leaves: Any) -> None:
        for leaf in leaves:
            if isinstance(leaf, Tensor) and leaf.device.type == "cpu":
                for run in self._noted.pop(leaf.untyped_storage()._cdata, ()):
                    run()


def _is_large(value: object) -> bool:
    if not isinstance(value, Tensor) or type(value) not in (Tensor, torch.nn.Parameter):
        return False
    on_cpu = value.device.type == "cpu" and value.layout == torch.strided
    return on_cpu and value.untyped_storage().nbytes() >= LARGE_BYTES


def _moves_away(name: str, args: Any, given: dict[str, Any]) -> bool:
    """Return whether an operator copies from the CPU to a device that is not one."""
    if name == "aten::_to_copy":
        device = given.get("device")
        return device is not None and torch.device(device).type != "cpu"
    return name == "aten::copy_" and args[0].device.type != "cpu"
