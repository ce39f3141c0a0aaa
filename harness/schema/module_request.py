"""What ``harness profile`` asks of its worker: plain data, no torch."""

from dataclasses import dataclass
from typing import Any

from harness.schema.errors import HarnessError

OPTIMIZERS = ("none", "sgd", "momentum", "adam", "adamw")
LOSSES = ("cross-entropy", "mean-square", "sum", "model")
MODES = ("train", "inference")
LEARNING_RATE = 0.01
INPUT_TYPES = ("float32", "float64", "bfloat16", "float16", "int64")


@dataclass(frozen=True, kw_only=True)
class Request:
    """One module's step to trace."""

    target: str
    """``MODULE:CALLABLE``; called without arguments it returns the network."""
    input_shape: tuple[int, ...]
    """Shape of one example."""
    batch: int
    optimizer: str = "sgd"
    loss: str = "cross-entropy"
    classes: int | None = None
    """Labels are 0 to ``classes`` - 1; None: all 0."""
    mode: str = "train"
    input_type: str = "float32"
    threads: int = 1


class RequestError(HarnessError, ValueError):
    """A value of a request breaks its rule; the message names it, the value and the rule."""


def checked(**fields: Any) -> Request:
    """Return the request, its named choices checked.

    Raises:
        RequestError: a name that is not among the choices, or a target without a colon.

    """
    request = Request(**fields)
    module, colon, name = request.target.partition(":")
    if not (module and colon and name):
        raise RequestError(
            f"target must be MODULE:CALLABLE, e.g. package.models:build, got {request.target!r}"
        )
    for field, choices in (
        ("optimizer", OPTIMIZERS),
        ("loss", LOSSES),
        ("mode", MODES),
        ("input_type", INPUT_TYPES),
    ):
        value = getattr(request, field)
        if value not in choices:
            raise RequestError(f"{field} must be one of {', '.join(choices)}, got {value!r}")
    return request
