"""The need of a step of a test's model, as plain numbers that a baseline file can hold."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

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
    order = sorted(grown, key=lambda name: (-grown[name], name))
    return [
        f"layer {name} grew by {format_bytes(grown[name])} "
        f"({format_bytes(baseline.layers[name])} to {format_bytes(use.layers[name])})"
        if name in baseline.layers
        else f"layer {name} is new, with {format_bytes(grown[name])}"
        for name in order[:_LAYERS_NAMED]
    ]


def largest(use: MemoryUse) -> list[str]:
    """Return the layers that hold most at the peak, a sentence each."""
    order = sorted(use.layers, key=lambda name: (-use.layers[name], name))
    return [
        f"layer {name} holds {format_bytes(use.layers[name])}" for name in order[:_LAYERS_NAMED]
    ]
