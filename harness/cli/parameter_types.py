"""Types of command line options; each type converts the typed text to a value."""

import pkgutil
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.shell_completion import CompletionItem

from harness.schema.errors import HarnessError, did_you_mean
from harness.schema.units import format_bytes, is_decimal, parse_bytes, parse_share

if TYPE_CHECKING:  # generic since click 8.4, and not subscriptable before
    ParamType = click.ParamType[Any]
    Choice = click.Choice[str]
else:
    ParamType = click.ParamType
    Choice = click.Choice

Context = click.Context | None
Parameter = click.Parameter | None


def refuse(rule: str, value: object, param: Parameter, ctx: Context, hint: str = "") -> NoReturn:
    """Raise the usage error "OPTION must be RULE, got VALUE"."""
    raise click.UsageError(f"{_name(param)} must be {rule}, got {value!r}{hint}", ctx) from None


def _name(param: Parameter) -> str:
    if param is None:
        return "value"
    return param.opts[0] if isinstance(param, click.Option) else param.human_readable_name


class Choices(Choice):
    """Type of an option with choices in upper or lower case; errors suggest a similar name."""

    more = ""

    def __init__(self, choices: Sequence[str]) -> None:
        super().__init__(choices, case_sensitive=False)

    def convert(self, value: Any, param: Parameter, ctx: Context) -> Any:
        """Return the choice as it is spelled in the list."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            given = str(value).lower()
            hint = did_you_mean(_OTHER_NAMES.get(given, given), self.choices)
            refuse(f"one of {', '.join(self.choices)}", value, param, ctx, hint + self.more)


_OTHER_NAMES = {
    "bf16": "bfloat16", "fp16": "float16", "half": "float16", "fp32": "float32",
    "mse": "mean-square", "mseloss": "mean-square", "crossentropyloss": "cross-entropy",
    "eval": "inference", "evaluation": "inference", "test": "inference", "training": "train",
    "gpu": "cuda", "none": "none", "adam8bit": "adam", "sgdm": "momentum",
}  # fmt: skip
"""Names that other programs use, each with the choice that the error suggests."""


class Number(ParamType):
    """Type of a number within optional limits; NaN is outside any limit."""

    name = "number"
    kind: type[int] | type[float] = float
    words = "a number"

    def __init__(self, low: float | None = None, high: float | None = None) -> None:
        self._low, self._high = low, high

    def convert(self, value: Any, param: Parameter, ctx: Context) -> float:
        """Return the value as a number; raise a usage error if the number is outside the limits."""
        rule = self.words
        if self._low is not None and self._high is not None:
            rule += f" between {self._low:,} and {self._high:,}"
        elif self._low is not None:
            rule += f" of at least {self._low:,}"
        try:
            number = self.kind(value)
        except ValueError:
            refuse(rule, value, param, ctx)
        high_enough = self._low is None or number >= self._low
        if not (high_enough and (self._high is None or number <= self._high)):
            refuse(rule, number, param, ctx)
        return number


class WholeNumber(Number):
    """Type of a whole number within optional limits."""

    name = "integer"
    kind = int
    words = "a whole number"


class SizeType(ParamType):
    """Type of a number of bytes with a unit, such as ``256MiB``."""

    name = "size"

    def convert(self, value: Any, param: Parameter, ctx: Context) -> int:
        """Return the size in bytes."""
        if isinstance(value, int):
            return value
        try:
            size = parse_bytes(value)
        except ValueError as error:
            raise click.UsageError(f"{_name(param)}: {error}", ctx) from None
        if is_decimal(value):
            written = value.strip()
            binary = f"{written[:-2]}{written[-2].upper()}iB"
            note = f"{written} is {size:,} bytes, {format_bytes(size)}; {binary} is more"
            click.echo(f"note: {note}", err=True)
        return size


class Share(ParamType):
    """Type of an option whose value is a percentage, such as ``1%``."""

    name = "share"

    def convert(self, value: Any, param: Parameter, ctx: Context) -> Fraction:
        """Return the percentage as a fraction."""
        if isinstance(value, Fraction):
            return value
        try:
            return parse_share(value)
        except HarnessError:
            refuse("between 0% and 100%", value, param, ctx)


class Completed(ParamType):
    """Type of any text; the shell completes the text to a listed name or to a file."""

    name = "text"

    def __init__(self, source: str, *others: str, files: bool = False) -> None:
        self._source, self._others, self._files = source, others, files

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the names that begin with the text ``incomplete``."""
        del ctx, param
        names = [*pkgutil.resolve_name(self._source)(), *self._others]
        items = [CompletionItem(name) for name in names if name.startswith(incomplete.lower())]
        return items or [CompletionItem(incomplete, type="file")] * self._files


SIZE = SizeType()
SHARE = Share()
SECONDS = Number(0.1, 1e6)
