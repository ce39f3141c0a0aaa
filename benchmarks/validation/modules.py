"""Modules whose prediction for CUDA is held against measurement: a network by name, its step."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True, kw_only=True)
class Module:
    """A network and what its step needs, by the names of ``harness profile``."""

    build: Callable[[], nn.Module]
    batch: int
    input_shape: tuple[int, ...]
    optimizer: str
    loss: str = "cross-entropy"


def resnet18() -> nn.Module:
    """Return torchvision's, for 10 classes."""
    from torchvision.models import resnet18 as build

    network: nn.Module = build(num_classes=10)
    return network


def transformer() -> nn.Module:
    """Return an encoder of two layers with dropout."""
    layer = nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True, dropout=0.1)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def normalised() -> nn.Module:
    """Return a perceptron with both normalizations, dropout and two activations."""
    return nn.Sequential(
        nn.Linear(300, 512),
        nn.BatchNorm1d(512),
        nn.GELU(),
        nn.Dropout(0.2),
        nn.Linear(512, 77),
        nn.LayerNorm(77),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(77, 10),
    )


MODULES = {
    "resnet18": Module(build=resnet18, batch=8, input_shape=(3, 64, 64), optimizer="momentum"),
    "transformer encoder": Module(
        build=transformer,
        batch=8,
        input_shape=(128, 256),
        optimizer="adamw",
        loss="mean-square",
    ),
    "perceptron": Module(build=normalised, batch=3000, input_shape=(300,), optimizer="adam"),
    "perceptron, many rows": Module(
        build=normalised, batch=100_000, input_shape=(300,), optimizer="sgd"
    ),
}
