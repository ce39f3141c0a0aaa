"""Represents unknown numbers, which are read from tensors whose values are not computed.

Each ``Unknown`` object remembers where its number was read, and reports uses that may influence the
script. The reported uses are comparisons, conversions to an integer, a truth value or an array, and
taking the length of the number's text. Sums, means and printing are not reported. An unknown number
cannot detect C code that reads its value without calling a method. In an estimate, the uses
``'%.2f' % x`` and ``Decimal(x)`` are not detected, either.
"""

import dis
import heapq
import math
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, SupportsIndex

from harness.prediction.number_uses import LISTENERS, used
from harness.prediction.unknown_texts import Text, text_of

_ARITHMETIC = "add radd sub rsub mul rmul truediv rtruediv pow rpow mod rmod floordiv rfloordiv"
_ARITHMETIC += " neg pos abs"
_COMPARISONS = "lt le gt ge eq ne"
_CONVERSIONS = "__int__ __float__ as_integer_ratio is_integer hex"
_ROUNDINGS = "trunc ceil floor divmod rdivmod"
_OPPOSITE = "eq"
"""Comparison that is false in a run that makes all other comparisons true. A number cannot be both
less than another number and equal to it. Code that sorts numbers, or finds the largest, compares
the assumed values."""
_ORDER = frozenset({"__lt__", "__le__", "__gt__", "__ge__"})
_MOST_TRIED = 10_000
"""Largest known integer for which comparisons use the assumed numbers of ``trial_values.py``."""
_PRIORITY = -1.0
"""Value of ``__array_priority__``: above that of NumPy's scalars, below that of NumPy's arrays."""


class Unknown(float):
    """A floating-point number whose value is not computed."""

    __slots__ = ("place",)
    place: str
    __array_priority__ = _PRIORITY
    __class__ = property(lambda _: float)

    def __new__(cls, *given: Any) -> Any:
        """Return a plain number for code that calls a number's type, as ``statistics`` does."""
        return float(*given)

    def __bool__(self) -> bool:
        return LISTENERS[0].compared(self.place, float.__bool__(self))

    def __str__(self) -> str:
        return text_of(float.__repr__(self), self.place)

    def __repr__(self) -> str:
        return text_of(float.__repr__(self), self.place)

    def __format__(self, how: str, /) -> str:
        return text_of(float.__format__(self, how), self.place)

    def __hash__(self) -> int:
        used(self.place)
        return float.__hash__(self)

    def __copy__(self) -> "Unknown":
        return self

    def __deepcopy__(self, _: object) -> "Unknown":
        return self

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> tuple[Any, ...]:
        used(self.place)
        return float, (float.__add__(self, 0.0),)

    def __round__(self, digits: SupportsIndex | None = None, /) -> Any:
        if digits is None:
            used(self.place)
        return unknown(float.__round__(self, digits), self.place)


class UnknownWhole(int):
    """An integer whose value is not computed; it may become a size, so even reading it is a use."""

    place: str
    __array_priority__ = _PRIORITY
    __class__ = property(lambda _: int)

    def __new__(cls, *given: Any, **named: Any) -> Any:
        """Return a plain integer for code that calls the type of a number."""
        return int(*given, **named)

    def __bool__(self) -> bool:
        return LISTENERS[0].compared(self.place, int.__bool__(self))

    def __hash__(self) -> int:
        return int.__hash__(self)

    def __deepcopy__(self, _: object) -> "UnknownWhole":
        return self

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> tuple[Any, ...]:
        return int, (int.__add__(self, 0),)


def unknown(value: Any, place: str) -> Any:
    """Return an object for an unknown number; ``value`` is its assumed value in this run."""
    if type(value) is int:
        whole = int.__new__(UnknownWhole, value)
        whole.place = place
        return whole
    if type(value) is not float:
        return value
    number = float.__new__(Unknown, value)
    number.place = place
    LISTENERS[0].made(value)
    return number


def with_ones(place: str, *numbers: Any) -> list[Any]:
    """Replace unknown numbers by 1 after an operation on these numbers failed.

    The listener decides whether the operation fails in this run; if so, the error is raised.
    """
    if LISTENERS[0].compared(place, True):
        raise
    return [1.0 if type(one) is Unknown else one for one in numbers]


def _arithmetic(owner: type, name: str) -> Callable[..., Any]:
    real = getattr(owner, name)

    def operation(self: Any, *others: Any) -> Any:
        try:
            result = real(self, *others)
        except ArithmeticError:
            result = real(*with_ones(self.place, self, *others))
        if result is NotImplemented and _is_numpys(*others):
            result = real(self, others[0].item())
        if isinstance(result, complex):  # a root is taken to be of what is not negative
            result = abs(result)
        return unknown(result, self.place)

    return operation


def _is_numpys(other: Any = None, *_: object) -> bool:
    return bool(getattr(other, "__array_priority__", 0) < _PRIORITY)


def _sorts(frame: FrameType) -> bool:
    """Return whether a frame calls C code, such as ``max``, or belongs to ``heapq``."""
    return "CALL" in _operation(frame) or frame.f_code.co_filename == heapq.__file__


def _operation(frame: FrameType) -> str:
    return dis.opname[frame.f_code.co_code[frame.f_lasti]]


def _comparison(owner: type, name: str) -> Callable[..., Any]:
    real = getattr(owner, name)
    equals = name == f"__{_OPPOSITE}__"
    opposite = owner is float and equals

    def compare(self: Any, other: Any) -> Any:
        result = real(self, other.item() if _is_numpys(other) else other)
        is_infinite = isinstance(other, float) and math.isinf(other)
        if result is NotImplemented or is_infinite or other is self:
            return result  # numbers are taken to be finite
        if equals and owner is int and _operation(sys._getframe(1)) == "BINARY_SUBSCR":
            return result  # a word is looked up by its number
        orders, of_two = name in _ORDER, type(other) is type(self)
        sorts = (orders or of_two) and _sorts(sys._getframe(1))
        chooses = sorts or (orders and owner is int and abs(other) <= _MOST_TRIED)
        if sorts and not of_two:
            LISTENERS[0].picked(self.place)
        return LISTENERS[0].compared(self.place, result, opposite=opposite, chooses=chooses)

    return compare


def _conversion(name: str, *, follows: bool = False) -> Callable[..., Any]:
    real = getattr(float, name)

    def convert(self: Any, *others: Any) -> Any:
        used(self.place)
        result = real(self, *others)
        if not follows:
            return result
        if isinstance(result, tuple):
            return tuple(unknown(one, self.place) for one in result)
        return unknown(result, self.place)

    return convert


for _class, _owner in ((Unknown, float), (UnknownWhole, int)):
    for _name in _ARITHMETIC.split():
        setattr(_class, f"__{_name}__", _arithmetic(_owner, f"__{_name}__"))
    for _name in _COMPARISONS.split():
        setattr(_class, f"__{_name}__", _comparison(_owner, f"__{_name}__"))
for _name in _CONVERSIONS.split():
    setattr(Unknown, _name, _conversion(_name))
for _name in _ROUNDINGS.split():
    setattr(Unknown, f"__{_name}__", _conversion(f"__{_name}__", follows=True))


def known(value: Any) -> Any:
    """Return an unknown number or text as a plain object, without reporting a use."""
    if type(value) is Unknown:
        return float.__add__(value, 0.0)
    if type(value) is UnknownWhole:
        return int.__add__(value, 0)
    return str.__str__(value) if type(value) is Text else value
