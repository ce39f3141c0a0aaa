"""Unknown numbers in ``text % number``, and in sets and dictionaries, which Python computes in C.

``stub/values/python_types.c`` calls back: the text is one of an unknown number, and a set has the
number or not as the run decides.
"""

import ctypes
import sys
from typing import Any, Final

from harness.prediction.number_uses import LISTENERS
from harness.prediction.unknown_numbers import Unknown, UnknownWhole
from harness.prediction.unknown_texts import text_of

_OBJECT: Final = ctypes.py_object
_Format = ctypes.PYFUNCTYPE(_OBJECT, _OBJECT, _OBJECT)
_Contains = ctypes.PYFUNCTYPE(ctypes.c_int, _OBJECT, ctypes.c_int)


def _format(text: str, number: Any) -> Any:
    return text_of(text, number.place)


def _contains(number: Any, is_in: int) -> int:
    return LISTENERS[0].compared(number.place, bool(is_in), opposite=type(number) is Unknown)


_CALLED: Final = _Format(_format), _Contains(_contains)


def follow_in_python() -> None:
    """Have Python's types call back, except in a Python without a global lock."""
    if "t" not in sys.abiflags:
        types: tuple[type, ...] = (str, set, dict, tuple, Unknown, UnknownWhole)
        places = [ctypes.c_void_p(id(one)) for one in types]
        ctypes.CDLL(None).pretend_in_python(*places, *_CALLED)
