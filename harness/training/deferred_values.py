"""Large values on the CPU that are written only if something reads them.

A network of billions of parameters is built on the CPU and moved to a GPU. On a pretended GPU its
values decide nothing, and writing them takes most of the time and all of the memory. So inside
``deferred_values`` an initialiser of a large tensor is noted instead of run. Moving the tensor to a
GPU reads nothing there; any other operator runs what was noted first, in the order of the program,
so what ``__init__`` reads is right. Random numbers that are noted are drawn later than others.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
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
        self._moved: dict[int, int] = {}

    @property
    def is_waiting(self) -> bool:
        """Return whether a noted tensor was neither read nor moved to another device."""
        return bool(self._noted.keys() - self._moved.keys())

    @property
    def left_out_bytes(self) -> int:
        """Bytes of the noted tensors that were moved to another device and never read."""
        return sum(size for key, size in self._moved.items() if key in self._noted)

    def write(self, tensors: Iterable[object]) -> None:
        """Run what was noted of some tensors."""
        with _disable_current_modes():
            self._run_noted(tensors)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Record an initialiser, or compute the values that the operator may read and run it."""
        del types
        given, name = kwargs or {}, func._schema.name
        if name in _INITIALISERS and _is_large(args[0]):
            self._run_noted(tree_leaves((args[1:], given)))
            self._note(args[0], lambda noted: func(noted, *args[1:], **given))
            return args[0]
        if name in _FACTORIES and "generator" not in given:
            return self._factory(func, args, given)
        if _moves_away(name, args, given):
            source = args[1] if name == "aten::copy_" else args[0]
            if _is_large(source):
                self._moved[_key(source)] = source.untyped_storage().nbytes()
        elif name == "aten::_to_copy" and _is_large(args[0]) and _key(args[0]) in self._noted:
            return self._converted(func, args[0], given)
        elif name not in _READS_NOTHING:
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
        self._note(made, lambda noted: noted.copy_(func(*args, **given)))
        return made

    def _converted(self, func: Any, source: Tensor, given: dict[str, Any]) -> Tensor:
        """Make a tensor of another type without values, as long as its source has none."""
        source = source.detach()
        made = torch.empty_like(
            source,
            dtype=given.get("dtype") or source.dtype,
            memory_format=given.get("memory_format") or torch.preserve_format,
        )
        if not _is_large(made):
            self._run_noted([source])
            return made.copy_(source)

        def convert(noted: Tensor) -> None:
            self._run_noted([source])
            noted.copy_(func(source, **given))

        self._note(made, convert)
        self._moved[_key(source)] = 0
        return made

    def _note(self, tensor: Tensor, run: Callable[[Tensor], object]) -> None:
        alias = tensor.detach()  # its storage lives as long as the note, whatever becomes of it
        self._noted.setdefault(_key(tensor), []).append(lambda: run(alias))

    def _run_noted(self, leaves: Any) -> None:
        for leaf in leaves:
            is_tensor = isinstance(leaf, Tensor) and leaf.layout == torch.strided
            if is_tensor and leaf.device.type == "cpu":
                for run in self._noted.pop(_key(leaf), ()):
                    run()


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


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
