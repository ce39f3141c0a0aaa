"""A number that nobody knows, as an object: it remembers where it was read, and sees its uses.

A comparison decides by it, and so does whatever makes an integer, a truth, an array or the length
of a text of it. Sums, means and printing do not. What C code makes of it without a call is not
seen: text that is joined to other text, ``'%.2f' % x``, and arrays of the standard library.
"""

import dis
import json
import math
import statistics
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol, SupportsIndex

from harness.prediction.after_import import instead

_ARITHMETIC = "add radd sub rsub mul rmul truediv rtruediv pow rpow mod rmod floordiv rfloordiv"
_ARITHMETIC += " neg pos abs"
_COMPARISONS = "lt le gt ge eq ne"
_CONVERSIONS = "int float trunc ceil floor divmod rdivmod"
_TEXT = "len eq ne lt le gt ge contains getitem iter"
_TEXT_METHODS = "split strip startswith endswith index find count encode partition replace"
_NUMBERS_OF_TEXT = {"__float__": float, "__int__": int}
_OPPOSITE = "eq"
"""Two numbers are equal or one is less: a run in which all decisions are true has no equal
ones, so that a search for the largest finds it, and a list is sorted."""
_ORDER = frozenset({"__lt__", "__le__", "__gt__", "__ge__"})
_MOST_TRIED = 10_000
"""Integers up to here are smaller than the first one of one run, and larger than that of another
(``trial_values.py``)."""
_MATH = "exp exp2 expm1 log log2 log10 log1p sqrt pow sin cos tanh fabs cbrt"
"""Functions of ``math`` that make another number of a number."""


class Uses(Protocol):
    """A listener to the uses of unknown numbers."""

    def compared(
        self, place: str, otherwise: bool, *, opposite: bool = False, chooses: bool = False
    ) -> bool:
        """Return what a comparison is; ``otherwise`` with the number as it is.

        With ``opposite``, it is false where all decisions are true. With ``chooses``, what is
        larger may become a size, as in ``max(8, length)``: the comparison and the number agree.
        """

    def used(self, place: str) -> None:
        """Note that something may be decided by a number read at a place."""

    def made(self, number: float) -> None:
        """Note a number that code in C may be given."""


class _Reading(threading.local):
    """The read that a wrapped method of this thread makes."""

    active = False
    place: str | None = None


READING = _Reading()
_uses: list[Uses] = []


class Unknown(float):
    """A number that nobody knows."""

    __slots__ = ("place",)
    place: str

    def __bool__(self) -> bool:
        return _uses[0].compared(self.place, float.__bool__(self))

    def __str__(self) -> str:
        return _text(float.__repr__(self), self.place)

    def __repr__(self) -> str:
        return _text(float.__repr__(self), self.place)

    def __format__(self, how: str, /) -> str:
        return _text(float.__format__(self, how), self.place)

    def __hash__(self) -> int:
        _uses[0].used(self.place)
        return float.__hash__(self)

    def __copy__(self) -> "Unknown":
        return self

    def __deepcopy__(self, _: object) -> "Unknown":
        return self

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> tuple[Any, ...]:
        _uses[0].used(self.place)
        return float, (float.__add__(self, 0.0),)

    def __round__(self, digits: SupportsIndex | None = None, /) -> Any:
        if digits is None:
            _uses[0].used(self.place)
            return float.__round__(self)
        return unknown(float.__round__(self, digits), self.place)


class UnknownWhole(int):
    """An integer that nobody knows; it may be a size, so that reading it is a use already."""

    place: str

    def __bool__(self) -> bool:
        return _uses[0].compared(self.place, int.__bool__(self))

    def __hash__(self) -> int:
        return int.__hash__(self)

    def __deepcopy__(self, _: object) -> "UnknownWhole":
        return self

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> tuple[Any, ...]:
        return int, (int.__add__(self, 0),)


class _Text(str):
    """The text of an unknown number; to ask its length, or to compare it, uses the number."""

    place: str

    def __add__(self, other: str, /) -> str:
        return _text(str.__add__(self, other), self.place)

    def __radd__(self, other: str) -> str:
        return _text(str.__add__(other, self), self.place)

    def __hash__(self) -> int:
        return str.__hash__(self)


def _text(words: str, place: str) -> _Text:
    text = _Text(words)
    text.place = place
    return text


def unknown(value: Any, place: str) -> Any:
    """Return a number that nobody knows, with the value that it has in this run."""
    if type(value) is int:
        whole = int.__new__(UnknownWhole, value)
        whole.place = place
        return whole
    if type(value) is not float:
        return value
    number = float.__new__(Unknown, value)
    number.place = place
    _uses[0].made(value)
    return number


def _with_ones(place: str, *numbers: Any) -> list[Any]:
    """Return numbers with 1 for unknown ones, called where an operation fails with their values.

    Whether it fails is decided like a comparison: a run in which it does not goes on with 1.
    """
    if _uses[0].compared(place, True):
        raise
    return [1.0 if type(one) is Unknown else one for one in numbers]


def _arithmetic(owner: type, name: str) -> Callable[..., Any]:
    real = getattr(owner, name)

    def operation(self: Any, *others: Any) -> Any:
        try:
            result = real(self, *others)
        except ArithmeticError:
            result = real(*_with_ones(self.place, self, *others))
        if isinstance(result, complex):  # a root is taken to be of what is not negative
            result = abs(result)
        return unknown(result, self.place)

    return operation


def _asked_by_builtin(frame: FrameType) -> bool:
    """Return whether a frame is in a call of C code, such as ``max`` or ``sorted``."""
    return dis.opname[frame.f_code.co_code[frame.f_lasti]].startswith("CALL")


def _comparison(owner: type, name: str) -> Callable[..., Any]:
    real = getattr(owner, name)
    opposite = owner is float and name == f"__{_OPPOSITE}__"

    def compare(self: Any, other: Any) -> Any:
        result = real(self, other)
        is_infinite = isinstance(other, float) and math.isinf(other)
        if result is NotImplemented or is_infinite or other is self:
            return result  # numbers are taken to be finite
        chooses = name in _ORDER and (
            (owner is int and abs(other) <= _MOST_TRIED) or _asked_by_builtin(sys._getframe(1))
        )
        return _uses[0].compared(self.place, result, opposite=opposite, chooses=chooses)

    return compare


def _conversion(owner: type, name: str) -> Callable[..., Any]:
    real = getattr(owner, name)

    def convert(self: Any, *others: Any) -> Any:
        _uses[0].used(self.place)
        return real(self, *others)

    return convert


def _number_of_text(number: type) -> Callable[[Any], Any]:
    def convert(text: Any) -> Any:
        _uses[0].used(text.place)
        return number(str.__str__(text))

    return convert


for _class, _owner in ((Unknown, float), (UnknownWhole, int)):
    for _name in _ARITHMETIC.split():
        setattr(_class, f"__{_name}__", _arithmetic(_owner, f"__{_name}__"))
    for _name in _COMPARISONS.split():
        setattr(_class, f"__{_name}__", _comparison(_owner, f"__{_name}__"))
for _name in (*(f"__{one}__" for one in _CONVERSIONS.split()), "as_integer_ratio", "is_integer"):
    setattr(Unknown, _name, _conversion(float, _name))
setattr(Unknown, "hex", _conversion(float, "hex"))  # noqa: B010
for _name in (*(f"__{one}__" for one in _TEXT.split()), *_TEXT_METHODS.split()):
    setattr(_Text, _name, _conversion(str, _name))
for _name, _number in _NUMBERS_OF_TEXT.items():
    setattr(_Text, _name, _number_of_text(_number))


def _known(value: Any) -> Any:
    """Return a plain number of the same value, without a use."""
    return float.__add__(value, 0.0) if type(value) is Unknown else value


def _wrap(value: Any, place: str) -> Any:
    if isinstance(value, list):
        return [_wrap(one, place) for one in value]
    return unknown(value, place)


def install(torch: Any, uses: Uses) -> None:
    """Have numbers that are read from tensors, and not known, be such objects."""
    _uses.append(uses)
    if len(_uses) > 1:  # the methods are replaced already
        del _uses[0]
        return
    for name in ("item", "tolist"):

        @instead(torch.Tensor, name)
        def read(real: Callable[..., Any], tensor: Any, *rest: Any) -> Any:
            if not tensor.is_cuda or READING.active:
                return real(tensor, *rest)
            READING.active, READING.place = True, None
            try:
                value, place = real(tensor, *rest), _read_at()
            finally:
                READING.active = False
            return value if place is None else _wrap(value, place)

    _follow_in_functions(torch)


def _read_at() -> str | None:
    return READING.place


def _follow_in_math() -> None:
    for name in _MATH.split():
        if hasattr(math, name):

            @instead(math, name)
            def compute(real: Callable[..., Any], *numbers: Any) -> Any:
                for one in numbers:
                    if type(one) is Unknown:
                        try:
                            return unknown(real(*map(_known, numbers)), one.place)
                        except (ArithmeticError, ValueError):
                            return unknown(real(*_with_ones(one.place, *numbers)), one.place)
                return real(*numbers)

    @instead(math, "isclose")
    def is_close(real: Callable[..., bool], *numbers: Any, **named: Any) -> bool:
        close = real(*numbers, **named)
        for one in numbers:
            if type(one) is Unknown:
                return _uses[0].compared(one.place, close, opposite=True)
        return close


def _follow_in_functions(torch: Any) -> None:
    """Follow numbers through functions in C."""
    _follow_in_math()
    _follow_json()

    @instead(statistics, "fmean")
    def fmean(real: Callable[..., Any], data: Any, *rest: Any, **named: Any) -> Any:
        data = list(data)
        places = [one.place for one in data if type(one) is Unknown]
        mean = real(data, *rest, **named)
        return unknown(mean, places[0]) if places else mean

    for owner, name in ((torch, "tensor"), (torch, "as_tensor")):

        @instead(owner, name)
        def make(real: Callable[..., Any], *given: Any, **named: Any) -> Any:
            for one in given:
                _use_inside(one)
            return real(*given, **named)


def _follow_json() -> None:
    """Have numbers count as used when JSON is read after they were written as such."""
    written: set[str] = set()

    for name in ("dump", "dumps"):

        @instead(json, name)
        def write(real: Callable[..., Any], value: Any, *rest: Any, **named: Any) -> Any:
            written.update(_places_inside(value))
            return real(value, *rest, **named)

    @instead(json, "loads")
    def load(real: Callable[..., Any], text: Any, **named: Any) -> Any:
        for place in written:  # it may be what was written before
            _uses[0].used(place)
        written.clear()
        return real(text, **named)


def _use_inside(value: Any) -> None:
    for place in _places_inside(value):
        _uses[0].used(place)


def _places_inside(value: Any) -> list[str]:
    """Return where the unknown numbers of a value were read; TorchDynamo refuses a generator."""
    if type(value) is Unknown:
        return [value.place]
    inside = value.values() if isinstance(value, dict) else value
    is_nested = isinstance(value, list | tuple | dict)
    return [place for one in inside for place in _places_inside(one)] if is_nested else []
