"""Types of options that describe a step, such as widths and input shapes."""

from collections.abc import Sequence
from typing import Any

from harness.cli.parameter_types import Choices, Context, Parameter, ParamType, refuse


class ChoicesOrTarget(Choices):
    """Type of an option that is a listed name or ``MODULE:CALLABLE``."""

    def __init__(self, choices: Sequence[str], of: str) -> None:
        super().__init__(choices)
        self.more = f"; you can also give a function {of}, as FILE.py:FUNCTION"

    def convert(self, value: Any, param: Parameter, ctx: Context) -> Any:
        """Return the listed name, or the unchanged ``MODULE:CALLABLE``."""
        return value if ":" in str(value) else super().convert(value, param, ctx)


class Numbers(ParamType):
    """Type of a list of whole numbers of at least 1, separated by commas."""

    def __init__(self, example: str, name: str) -> None:
        self.name = name
        self._example = example

    def convert(self, value: Any, param: Parameter, ctx: Context) -> tuple[int, ...]:
        """Return the numbers as a tuple."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(int(part) for part in value.split(","))
        except ValueError:
            numbers = (0,)
        if min(numbers) < 1:
            rule = f"whole numbers from 1 with commas between them, such as {self._example}"
            refuse(rule, value, param, ctx)
        return numbers


class Input(ParamType):
    """Type of an option that describes an input of a network, ``[NAME=][TYPE:]SHAPE``."""

    name = "input"

    def convert(self, value: Any, param: Parameter, ctx: Context) -> str:
        """Check that the text describes an input, and return it unchanged."""
        from harness.schema.input_spec import parse_input

        del param, ctx
        parse_input(value)
        return str(value)


WIDTHS = Numbers("512,256", "widths")
INPUT = Input()
