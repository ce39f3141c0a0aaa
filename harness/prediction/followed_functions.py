"""Follows unknown numbers: numbers read from tensors whose values are not computed.

``install`` replaces functions of PyTorch, Python and YAML. A number read from a tensor becomes an
object (``unknown_numbers.py``). A function that gets an unknown number returns another unknown
number or reports a use.
"""

import json
import math
import statistics
import struct
import threading
import warnings
from collections.abc import Callable
from typing import Any

from harness.prediction.after_import import after_import, instead
from harness.prediction.number_uses import LISTENERS, Uses, used
from harness.prediction.unknown_numbers import Unknown, known, unknown, with_ones
from harness.prediction.unknown_texts import Text, follow_files, text_of

_MATH = "exp exp2 expm1 log log2 log10 log1p sqrt cbrt pow fabs fmod remainder hypot copysign erf"
_MATH += " sin cos tan sinh cosh tanh asin acos atan atan2 degrees radians erfc gamma lgamma ldexp"
"""Functions of ``math`` that return a number."""


class _Reading(threading.local):
    """State of a call of ``Tensor.item`` or ``Tensor.tolist`` in the current thread."""

    active = False
    place: str | None = None


READING = _Reading()


def _wrap(value: Any, place: str) -> Any:
    if isinstance(value, list):
        return [_wrap(one, place) for one in value]
    return unknown(value, place)


def install(torch: Any, uses: Uses) -> None:
    """Replace functions, so that numbers read from GPU tensors become ``Unknown`` objects."""
    LISTENERS.append(uses)
    if len(LISTENERS) > 1:  # the methods are replaced already
        del LISTENERS[0]
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


class _Returned:
    """Matches Python's warning that ``__float__`` returned an unknown number."""

    def match(self, text: str) -> bool:
        """Return whether ``text`` is the warning; if so, mark the last number read as used."""
        is_one = f"(type {Unknown.__name__}" in text
        if is_one and READING.place is not None:
            used(READING.place)
        return is_one


def _follow_in_math() -> None:
    for name in _MATH.split():
        if hasattr(math, name):

            @instead(math, name)
            def compute(real: Callable[..., Any], *numbers: Any) -> Any:
                for one in numbers:
                    if type(one) is Unknown:
                        try:
                            return unknown(real(*map(known, numbers)), one.place)
                        except (ArithmeticError, ValueError):
                            return unknown(real(*with_ones(one.place, *numbers)), one.place)
                return real(*numbers)

    @instead(math, "isclose")
    def is_close(real: Callable[..., bool], *numbers: Any, **named: Any) -> bool:
        close = real(*numbers, **named)
        for one in numbers:
            if type(one) is Unknown:
                return LISTENERS[0].compared(one.place, close, opposite=True)
        return close


def _follow_in_functions(torch: Any) -> None:
    """Follow unknown numbers through functions that are written in C."""
    _follow_in_math()
    _follow_json()
    after_import("yaml", _let_write)
    follow_files()
    if hasattr(torch.serialization, "add_safe_globals"):  # a checkpoint that holds a loss
        torch.serialization.add_safe_globals([float, int, str])
    warnings.filters.insert(0, ("ignore", _Returned(), DeprecationWarning, None, 0))  # type: ignore[attr-defined]

    for module, name in ((statistics, "fmean"), (math, "fsum")):

        @instead(module, name)
        def add(real: Callable[..., Any], data: Any, *rest: Any, **named: Any) -> Any:
            data = list(data)
            places = _places_inside(data)
            result = real(data, *rest, **named)
            return unknown(result, places[0]) if places else result

    for owner, name in ((torch, "tensor"), (torch, "as_tensor"), (struct, "pack")):
        count_given(owner, name)
    for name in ("dist", "frexp", "modf"):
        count_given(math, name)


def count_given(owner: Any, name: str) -> None:
    """Replace a function, so that unknown numbers among its arguments are reported as used."""

    @instead(owner, name)
    def call(real: Callable[..., Any], *given: Any, **named: Any) -> Any:
        use_inside(given)
        return real(*given, **named)


def _follow_json() -> None:
    """Make ``json.dumps`` return a ``Text`` if its value contains an unknown number."""
    for name in ("dump", "dumps"):

        @instead(json, name)
        def write(real: Callable[..., Any], value: Any, *rest: Any, **named: Any) -> Any:
            text = real(value, *rest, **named)
            followed = [text_of(text or "", place) for place in _places_inside(value)]
            return followed[0] if text and followed else text


def _let_write(yaml: Any) -> None:
    """Make YAML write unknown numbers and their texts as plain numbers and strings."""

    @instead(yaml.representer.BaseRepresenter, "represent_data")
    def represent(real: Callable[..., Any], dumper: Any, value: Any) -> Any:
        plain = known(value)
        if plain is not value:
            str(value)  # a file may have it now
        return real(dumper, plain)


def use_inside(value: Any) -> None:
    """Mark every unknown number in a value as used, including numbers in nested containers."""
    for place in _places_inside(value):
        used(place)


def _places_inside(value: Any) -> list[str]:
    """Return a list of the code locations that read the unknown numbers in ``value``.

    TorchDynamo does not allow a generator in this function.
    """
    if type(value) in (Unknown, Text):
        return [value.place]
    inside = value.values() if isinstance(value, dict) else value
    is_nested = isinstance(value, list | tuple | dict)
    return [place for one in inside for place in _places_inside(one)] if is_nested else []
