"""Describes the blocks that activation functions and dropout allocate and save.

Autograd saves the tensors that ``derivatives.yaml`` names in a function's derivative. ReLU, sigmoid
and tanh save the output. GELU, SiLU and leaky ReLU save the input. ``torch.max`` of two tensors
saves both tensors.
"""

from collections.abc import Mapping
from typing import NamedTuple

from harness.prediction.mlp.trace_writer import TraceWriter
from harness.prediction.versions import MAXIMUM_COMPARES_FIRST
from harness.schema.events import Event


class Activation(NamedTuple):
    """One activation function.

    ``keeps`` names the tensors that the derivative needs: "output", "input", "operands" (of the
    maximum with zeros) or "nothing". ``allocates`` is True if the output is a new block.
    """

    keeps: str
    allocates: bool
    forward: str = ""
    backward: str = ""


NODE = "autograd::engine::evaluate_function: "
"""Prefix of the profiler's name for a node of the backward pass."""


def _node(name: str, operator: str) -> str:
    return f"{NODE}{name}/{name}/aten::{operator}"


def _function(keeps: str, name: str, forward: str = "", backward: str = "") -> Activation:
    """Return an activation; the names of its backward node and operator follow from ``name``."""
    node = "".join(map(str.capitalize, name.split("_"))) + "Backward0"
    operator = f"aten::{name}{forward}"
    return Activation(keeps, True, operator, _node(node, backward or f"{name}_backward"))


_RELU = _function("output", "relu", "/aten::clamp_min", "threshold_backward")

ACTIVATIONS: Mapping[str, Activation] = {
    "relu": _RELU,
    "relu_inplace": _RELU._replace(allocates=False, forward=""),
    "sigmoid": _function("output", "sigmoid"),
    "tanh": _function("output", "tanh"),
    "gelu": _function("input", "gelu"),
    "silu": _function("input", "silu"),
    "leaky_relu": _function("input", "leaky_relu"),
    "identity": Activation("nothing", False),
}

MAXIMUM = Activation(
    "operands", True, "aten::max/aten::maximum", f"{NODE}MaximumBackward0/MaximumBackward0/aten::"
)
"""The ReLU of ``MLPScratch``: ``torch.max(x, torch.zeros_like(x))``."""

ZEROS = "aten::zeros_like/aten::empty_like/aten::empty_strided"
CAST = "/aten::to/aten::_to_copy/aten::empty_strided"
"""Operators that cast a tensor or a wrapped Python number to another dtype."""


def activation_of(model: str, name: str) -> Activation:
    """Return the activation function that ``model`` uses for ``name``."""
    return MAXIMUM if (model, name) == ("mlp-scratch", "relu") else ACTIVATIONS[name]


def maximum_backward(
    writer: TraceWriter, size_bytes: int, element_bytes: int, module: str
) -> Event:
    """Write the backward pass of the maximum with zeros; return its input's gradient.

    PyTorch computes ``at::where(self == other, grad / 2, grad)`` and writes zeros in place if
    ``self < other``. The 2 in ``grad / 2`` is an int64 of 8 bytes that is cast to the gradient's
    dtype. Comparisons allocate a byte per element; their order depends on the version of PyTorch.
    """
    node, elements = MAXIMUM.backward, size_bytes // element_bytes

    def allocate(size: int, operator: str) -> Event:
        return writer.allocate(size, node + operator, "temporary", module)

    less = allocate(elements, "lt") if MAXIMUM_COMPARES_FIRST.holds() else None
    two = writer.allocate(8, f"{node}div", "temporary", module)
    cast = writer.allocate(element_bytes, f"{node}div/aten::div{CAST}", "temporary", module)
    half = allocate(size_bytes, "div/aten::div")
    writer.free(cast, two)
    equal = allocate(elements, "eq")
    gradient = allocate(size_bytes, "where")
    if less is None:
        writer.free(allocate(elements, "lt"), equal, half)
    else:
        writer.free(equal, half, less)
    return gradient


class Dropout:
    """Writes the events of ``nn.Dropout`` in training; in inference, dropout does nothing.

    ``at::dropout`` draws a mask in the input's dtype, divides it by the keep probability, and
    multiplies the input by it. The mask is drawn in place, because ``bernoulli_`` of torch 2.13
    does not use MKL's generator. The backward pass needs only the mask.

    Source: aten/src/ATen/native/Dropout.cpp.
    """

    def __init__(self, writer: TraceWriter, element_bytes: int) -> None:
        self._writer = writer
        self._element_bytes = element_bytes

    def apply(self, size_bytes: int, module: str) -> tuple[Event, Event]:
        """Write the allocations of the mask and the output; return these two blocks."""
        allocate = self._writer.allocate
        like = "aten::dropout/aten::empty_like/aten::empty_strided"
        mask = allocate(size_bytes, like, "activation", module)
        share = "aten::dropout/aten::div_"
        wrapped = wrapped_number(share, f"{share}/aten::div_", self._element_bytes)
        self._writer.scratch(*wrapped, module=module)
        return mask, allocate(size_bytes, "aten::dropout/aten::mul", "activation", module)

    def backward(self, size_bytes: int, module: str) -> Event:
        """Write the gradient of the input, which is the output's gradient times the mask."""
        return self._writer.allocate(size_bytes, _node("MulBackward0", "mul"), "temporary", module)


def wrapped_number(operator: str, cast: str, element_bytes: int) -> list[tuple[int, str]]:
    """Return (bytes, operator) of a Python number and, if a cast is needed, of its cast."""
    return [(8, operator), *[(element_bytes, cast + CAST)] * (element_bytes != 8)]
