"""A value that a test knows to be there, for the checker of types too."""

from typing import TypeVar

Value = TypeVar("Value")


def known(value: Value | None) -> Value:
    """Return ``value``, which must not be None."""
    assert value is not None
    return value
