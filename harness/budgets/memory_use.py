"""The need of a step of a test's model, as plain numbers that a baseline file can hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.schema.layer_names import common_name, pattern
from harness.schema.units import format_bytes

Method = Literal["predicted", "measured"]
_LAYERS_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class MemoryUse:
    """The peak of a training step and the layers that hold it.

    Attributes:
        peak_bytes: most bytes alive on the CPU; most bytes allocated by PyTorch on a GPU.
        layers: bytes alive at the peak of the step's requests, by the layer that allocated them.
    """

    peak_bytes: int
    layers: Mapping[str, int]
    method: Method
    gpu: str | None = None


def growth(use: MemoryUse, baseline: MemoryUse) -> list[str]:
    """Return which layers hold more than before, most growth first, a sentence each."""
    grown = {
        name: size - baseline.layers.get(name, 0)
        for name, size in use.layers.items()
        if size > baseline.layers.get(name, 0)
    }
    rows: dict[tuple[str, int, int | None], list[str]] = {}
    for name in sorted(grown, key=lambda name: (-grown[name], name)):
        key = pattern(name), use.layers[name], baseline.layers.get(name)
        rows.setdefault(key, []).append(name)
    return [
        f"{_named(names)} grew by {format_bytes(size - before)} "
        f"({format_bytes(before)} to {format_bytes(size)})"
        if before is not None
        else f"{_named(names)} is new, with {format_bytes(size)}"
        for (_, size, before), names in [*rows.items()][:_LAYERS_NAMED]
    ]


def _named(names: Sequence[str]) -> str:
    """Return the layer, or the layers of equal blocks that changed alike."""
    if len(names) == 1:
        return f"layer {names[0]}"
    return f"each of the {len(names)} layers {common_name(names)}"


def largest(use: MemoryUse) -> list[str]:
    """Return the layers that hold most at the peak, a sentence each."""
    order = sorted(use.layers, key=lambda name: (-use.layers[name], name))
    return [
        f"layer {name} holds {format_bytes(use.layers[name])}" for name in order[:_LAYERS_NAMED]
    ]
