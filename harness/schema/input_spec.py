"""Parses descriptions of a network's inputs, such as ``int64:1024`` or ``mask=bool:128``."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.schema.errors import HarnessError, StepError, did_you_mean

TYPES = ("float32", "float64", "bfloat16", "float16", "int64", "int32", "bool")

InputShapes = Sequence[int] | str | Sequence[str] | Mapping[str, str | Sequence[int]]
"""A shape, one or more strings ``[TYPE:]SHAPE``, or a dict from argument names to shapes."""


class InputSpecError(HarnessError, ValueError):
    """The text does not describe an input; the message shows the expected form."""


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """Type and shape of one input, without the batch dimension; a scalar's shape is empty."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    name: str | None = None
    """Name of the model's argument; None for a positional argument."""

    def __str__(self) -> str:
        named = "" if self.name is None else f"{self.name}="
        return f"{named}{self.dtype}:{'x'.join(map(str, self.shape))}"


def parse_input(text: str) -> InputSpec:
    """Return the input that a string ``[NAME=][TYPE:]SHAPE`` describes."""
    name, equals, rest = text.rpartition("=")
    dtype, colon, size = rest.rpartition(":")
    dtype = dtype if colon else "float32"
    if dtype not in TYPES:
        hint = did_you_mean(dtype, [known for known in TYPES if known != "float64"])
        rule = f"type must be one of {', '.join(TYPES)}, got {dtype!r}{hint}"
        raise InputSpecError(f"--input: {rule}")
    try:
        shape = tuple(int(part) for part in size.lower().split("x")) if size else ()
    except ValueError:
        shape = (0,)
    if any(extent < 1 for extent in shape) or (equals and not name.isidentifier()):
        form = "[NAME=][TYPE:]SHAPE, e.g. 3x224x224, int64:1024 or mask=bool:128"
        numbers = re.split(r"[,*× ]+", size.strip("()[]"))
        if len(numbers) > 1 and all(map(str.isdecimal, numbers)):
            form = "x".join(numbers)
            form = f"a shape with x between its numbers: {text.replace(size, form)}"
        raise InputSpecError(f"--input must be {form}, got {text!r}")
    return InputSpec(shape=shape, dtype=dtype, name=name if equals else None)


def names_function(text: str) -> bool:
    """Return whether a string is MODULE:CALLABLE instead of ``[NAME=][TYPE:]SHAPE``."""
    place, colon, name = text.rpartition(":")
    return bool(colon) and place.rpartition("=")[2] not in TYPES and name.isidentifier()


def input_specs(inputs: object) -> tuple[InputSpec, ...]:
    """Return an ``InputSpec`` for each input of a step."""
    if inputs is None:
        raise StepError("give inputs: the shape of one example, e.g. (3, 224, 224)")
    if isinstance(inputs, Mapping):
        return tuple(_input_spec(shape, str(name)) for name, shape in inputs.items())
    if isinstance(inputs, str) or not isinstance(inputs, Sequence):
        return (_input_spec(inputs),)
    if all(isinstance(extent, int) for extent in inputs):
        return (_input_spec(inputs),)
    return tuple(_input_spec(shape) for shape in inputs)


def _input_spec(shape: object, name: str | None = None) -> InputSpec:
    if isinstance(shape, str):
        return parse_input(shape if name is None else f"{name}={shape}")
    extents = tuple(shape) if isinstance(shape, Sequence) else ("",)
    if not all(isinstance(extent, int) and extent > 0 for extent in extents):
        rule = "inputs must be shapes such as (3, 224, 224) or 'int64:1024', or a function"
        raise StepError(f"{rule} of the batch, got {shape!r}")
    return InputSpec(shape=extents, name=name)
