"""One input of a network as the command line names it, e.g. ``int64:1024`` or ``mask=bool:128``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.schema.errors import HarnessError

TYPES = ("float32", "float64", "bfloat16", "float16", "int64", "int32", "bool")

InputShapes = Sequence[int] | str | Sequence[str] | Mapping[str, str | Sequence[int]]
"""One shape; one or several of ``[TYPE:]SHAPE``; or either by the name of the model's argument."""


class InputSpecError(HarnessError, ValueError):
    """The text names no input; the message says what is expected."""


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """Shape of one example, without the batch; empty for one number an example."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    name: str | None = None
    """Name of the model's argument; None for a positional one."""


def parse_input(text: str) -> InputSpec:
    """Return the input that ``[NAME=][TYPE:]SHAPE`` names."""
    name, equals, rest = text.rpartition("=")
    dtype, colon, size = rest.rpartition(":")
    dtype = dtype if colon else "float32"
    if dtype not in TYPES:
        raise InputSpecError(f"--input: type must be one of {', '.join(TYPES)}, got {dtype!r}")
    try:
        shape = tuple(int(part) for part in size.lower().split("x")) if size else ()
    except ValueError:
        shape = (0,)
    if any(extent < 1 for extent in shape) or (equals and not name.isidentifier()):
        form = "[NAME=][TYPE:]SHAPE, e.g. 3x224x224, int64:1024 or mask=bool:128"
        raise InputSpecError(f"--input must be {form}, got {text!r}")
    return InputSpec(shape=shape, dtype=dtype, name=name if equals else None)
