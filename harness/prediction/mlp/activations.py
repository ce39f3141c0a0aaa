"""What each activation function takes, keeps for the backward pass and returns.

Autograd saves what ``derivatives.yaml`` names in a function's derivative: its output
(relu, sigmoid, tanh), its input (gelu, silu, leaky_relu), or both operands (maximum).
"""

from collections.abc import Mapping
from typing import NamedTuple

from harness.prediction.mlp.trace_writer import Tape
from harness.prediction.torch_rules import MAXIMUM_COMPARES_FIRST, rule_of
from harness.schema.events import Event


class Applied(NamedTuple):
    """What one application of an activation function left behind."""

    output: Event
    """The next layer's input; where nothing new was taken, the linear map's own output."""
    taken: tuple[Event, ...]
    """Blocks alive beside ``output``, in the order in which they are returned."""


class Kept(NamedTuple):
    """Blocks of one hidden layer that autograd holds, by the node that lets them go."""

    by_next: tuple[Event, ...]
    """Held by the next linear map alone: gone before this activation's backward runs."""
    by_activation: tuple[Event, ...]
    """Gone when this activation's backward has run."""


class Activation(NamedTuple):
    """One activation function.

    ``keeps`` is what its derivative needs: "output", "input", "operands" (of the maximum
    with zeros) or "nothing". ``taking`` says whether its output is a block of its own.
    """

    keeps: str
    taking: bool
    forward: str = ""
    backward: str = ""


NODE = "autograd::engine::evaluate_function: "
"""What the engine calls the work of one node of the backward pass."""


def _node(name: str, operator: str) -> str:
    return f"{NODE}{name}/{name}/aten::{operator}"


_RELU_BACKWARD = _node("ReluBackward0", "threshold_backward")

ACTIVATIONS: Mapping[str, Activation] = {
    "relu": Activation("output", True, "aten::relu/aten::clamp_min", _RELU_BACKWARD),
    "relu_inplace": Activation("output", False, "", _RELU_BACKWARD),
    "sigmoid": Activation(
        "output", True, "aten::sigmoid", _node("SigmoidBackward0", "sigmoid_backward")
    ),
    "tanh": Activation("output", True, "aten::tanh", _node("TanhBackward0", "tanh_backward")),
    "gelu": Activation("input", True, "aten::gelu", _node("GeluBackward0", "gelu_backward")),
    "silu": Activation("input", True, "aten::silu", _node("SiluBackward0", "silu_backward")),
    "leaky_relu": Activation(
        "input", True, "aten::leaky_relu", _node("LeakyReluBackward0", "leaky_relu_backward")
    ),
    "identity": Activation("nothing", False),
}

MAXIMUM = Activation(
    "operands",
    True,
    "aten::max/aten::maximum",
    f"{NODE}MaximumBackward0/MaximumBackward0/aten::",
)
"""The hand-written rectifier of ``MLPScratch``: ``torch.max(x, torch.zeros_like(x))``."""

ZEROS = "aten::zeros_like/aten::empty_like/aten::empty_strided"
CAST = "/aten::to/aten::_to_copy/aten::empty_strided"
"""A wrapped Python number (a float64 or int64 of 8 bytes) on its way to the tensor's type."""


def activation_of(model: str, name: str) -> Activation:
    """Return the function that ``model`` applies for the activation called ``name``."""
    return MAXIMUM if (model, name) == ("mlp-scratch", "relu") else ACTIVATIONS[name]


def apply(
    tape: Tape,
    activation: Activation,
    linear: Event,
    size_bytes: int,
    module: str,
    category: str,
    besides: str,
    prefix: str,
) -> Applied:
    """Write the forward events of ``activation`` on ``linear``, the linear map's output.

    The output is of ``category``, the zeros of the maximum are of category ``besides``.
    """
    if not activation.taking:
        return Applied(linear, ())
    taken: tuple[Event, ...] = (linear,)
    if activation is MAXIMUM:
        taken = (tape.take(size_bytes, prefix + ZEROS, besides, module), linear)
    return Applied(tape.take(size_bytes, prefix + activation.forward, category, module), taken)


def kept(activation: Activation, applied: Applied) -> Kept:
    """Return what autograd holds of ``applied`` after the forward pass, in training."""
    output, taken = applied
    if activation.keeps == "output":
        return Kept((), (output,))
    if activation.keeps == "nothing":
        return Kept((output,), ())
    return Kept((output,), taken)


def backward(
    tape: Tape,
    activation: Activation,
    gradient: Event,
    size_bytes: int,
    element_bytes: int,
    module: str,
) -> Event:
    """Write the events from the gradient of the output to that of the input; return the latter.

    ``gradient`` itself comes back where the activation has no backward. Otherwise the caller
    returns ``gradient`` and then what was kept.
    """
    if activation is MAXIMUM:
        return _maximum_backward(tape, size_bytes, element_bytes, module)
    if activation.keeps == "nothing":
        return gradient
    return tape.take(size_bytes, activation.backward, "temporary", module)


def _maximum_backward(tape: Tape, size_bytes: int, element_bytes: int, module: str) -> Event:
    """Write MaximumBackward0 for its first operand; the other, zeros, needs no gradient.

    ``at::where(self == other, grad / 2, grad)``, then zeros where ``self < other``, in place.
    The 2 is an int64 of 8 bytes that is cast to the gradient's type; a comparison takes a byte
    an element. When the second comparison is made depends on the version (``torch_rules``).
    """
    node, elements = MAXIMUM.backward, size_bytes // element_bytes
    compares_first = rule_of("maximum-backward") is MAXIMUM_COMPARES_FIRST
    less = tape.take(elements, f"{node}lt", "temporary", module) if compares_first else None
    two = tape.take_on_host(8, f"{node}div", "temporary", module)
    cast = tape.take_on_host(element_bytes, f"{node}div/aten::div{CAST}", "temporary", module)
    half = tape.take(size_bytes, f"{node}div/aten::div", "temporary", module)
    tape.give(cast)
    tape.give(two)
    equal = tape.take(elements, f"{node}eq", "temporary", module)
    gradient = tape.take(size_bytes, f"{node}where", "temporary", module)
    if less is None:
        less = tape.take(elements, f"{node}lt", "temporary", module)
        returned = (less, equal, half)
    else:
        returned = (equal, half, less)
    for block in returned:
        tape.give(block)
    return gradient
