"""Checks the arguments of public functions; an error message names the allowed values."""

from collections.abc import Collection, Iterable
from typing import TypeVar

from harness.schema.errors import HarnessError, did_you_mean
from harness.schema.units import parse_bytes

Value = TypeVar("Value")


class ArgumentError(HarnessError, TypeError):
    """An argument is invalid; the message names the argument and the allowed types or values.

    >>> import harness
    >>> harness.predict(harness.Workload(), budget_bytes="24GiB")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    harness...ArgumentError: budget_bytes must be ..., got '24GiB'; write budget_bytes=25769803776
    """


def check_bytes(name: str, value: object) -> int | None:
    """Return ``value`` if it is None or a positive integer; otherwise raise ``ArgumentError``."""
    if value is None or (type(value) is int and value > 0):
        return value
    hint = ""
    if isinstance(value, str):
        try:
            hint = f"; write {name}={parse_bytes(value)}"
        except ValueError:
            hint = "; write the number of bytes, such as 24 * 2**30"
    raise ArgumentError(f"{name} must be a whole number of bytes from 1 on, got {value!r}{hint}")


def check_choice(name: str, value: Value, choices: tuple[str, ...]) -> Value:
    """Return ``value`` if it is in ``choices``; otherwise raise ``ArgumentError``."""
    if value in choices:
        return value
    raise ArgumentError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def check_names(subject: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raise ``ArgumentError`` if the name of an argument is unknown."""
    for name in given:
        if name not in known:
            hint = did_you_mean(name, known)
            raise ArgumentError(f"{subject} takes no argument {name!r}{hint}")
