"""The two networks of the course note: ``MLP`` and ``MLPScratch``."""

import functools
import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

SIGMA = 0.01
"""Standard deviation of the initial weights in the course note."""


def relu(x: Tensor) -> Tensor:
    """Return ReLU of a tensor of any shape, computed with one elementwise maximum.

    The course note writes ``torch.max(X, 0)``, but that call reduces over the rows and returns a
    pair (values, indices). With that call, the next matmul would fail.
    """
    return torch.max(x, torch.zeros_like(x))


_MODULES: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu_inplace": functools.partial(nn.ReLU, inplace=True),
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "leaky_relu": nn.LeakyReLU,
    "identity": nn.Identity,
}

_NORMS: dict[str, Callable[..., nn.Module]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}

_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": relu,
    "relu_inplace": torch.relu_,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": nn.functional.gelu,
    "silu": nn.functional.silu,
    "leaky_relu": nn.functional.leaky_relu,
    "identity": lambda x: x,
}


class MLP(nn.Sequential):
    """An MLP in which each hidden layer has a Linear and an activation.

    A normalization ``norm`` ("none", "batch" or "layer") precedes each activation, and ``dropout``
    follows each activation. The model maps (batch, in_features) to logits (batch, classes).
    """

    def __init__(
        self,
        in_features: int,
        widths: Sequence[int],
        classes: int,
        activation: str,
        *,
        norm: str = "none",
        dropout: float = 0.0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        layers: list[nn.Module] = []
        for fan_in, fan_out in zip([in_features, *widths[:-1]], widths, strict=True):
            layers.append(nn.Linear(fan_in, fan_out, dtype=dtype, device=device))
            if norm != "none":
                layers.append(_NORMS[norm](fan_out, dtype=dtype, device=device))
            layers.append(_MODULES[activation]())
            if dropout:
                layers.append(nn.Dropout(dropout))
        layers.append(nn.Linear(widths[-1], classes, dtype=dtype, device=device))
        super().__init__(*layers)

    def blocks(self) -> list[Callable[[Tensor], Tensor]]:
        """Return the hidden layers for checkpointing, each as one ``nn.Sequential``."""
        modules = list(self)
        starts = [at for at, module in enumerate(modules) if isinstance(module, nn.Linear)]
        return [nn.Sequential(*modules[at:end]) for at, end in itertools.pairwise(starts)]

    def predictor(self, hidden: Tensor) -> Tensor:
        """Return the logits from the output of the last hidden layer, (batch, widths[-1])."""
        logits: Tensor = self[-1](hidden)
        return logits


class MLPScratch(nn.Module):
    """The from-scratch MLP of the course note, which calls ``torch.matmul`` directly.

    Weights are drawn with standard deviation ``SIGMA``; biases are zero. The activation ``relu`` is
    the function ``relu`` of this file. The model maps (batch, ...) to logits (batch, classes).
    """

    def __init__(
        self,
        in_features: int,
        widths: Sequence[int],
        classes: int,
        activation: str,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.activation = _FUNCTIONS[activation]
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for fan_in, fan_out in zip([in_features, *widths], [*widths, classes], strict=True):
            weight = torch.empty(fan_in, fan_out, dtype=dtype, device=device)
            self.weights.append(nn.Parameter(weight.normal_(std=SIGMA)))
            self.biases.append(nn.Parameter(torch.zeros(fan_out, dtype=dtype, device=device)))

    def layer(self, x: Tensor, index: int) -> Tensor:
        """Return ``x @ W + b`` with the weights and biases of layer ``index``."""
        result: Tensor = torch.matmul(x, self.weights[index]) + self.biases[index]
        return result

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of a batch of examples."""
        hidden = x.reshape(-1, self.in_features)
        for index in range(len(self.weights) - 1):
            hidden = self.activation(self.layer(hidden, index))
        return self.layer(hidden, len(self.weights) - 1)

    def blocks(self) -> list[Callable[[Tensor], Tensor]]:
        """Return the hidden layers, each with its activation, for checkpointing."""

        def block(index: int, x: Tensor) -> Tensor:
            return self.activation(self.layer(x, index))

        return [functools.partial(block, index) for index in range(len(self.weights) - 1)]

    def predictor(self, hidden: Tensor) -> Tensor:
        """Return the logits from the output of the last hidden layer, (batch, widths[-1])."""
        return self.layer(hidden, len(self.weights) - 1)
