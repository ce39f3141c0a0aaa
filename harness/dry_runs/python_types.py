"""Tracks unknown GPU numbers through Python's C code and through C libraries.

``stub/values/python_types.c`` calls this module. ``text % number`` returns a text that is marked as
unknown. If the script checks whether a set contains an unknown number, the harness chooses the
result in each run. In user code, ``type(number)`` returns ``float`` or ``int``. An unknown number
counts as used if code converts it to ``Decimal`` or parses its text.
"""

import array
import ctypes
import datetime
import decimal
import sys
from types import ModuleType
from typing import Any, Final

from harness.dry_runs.own_code import is_own
from harness.prediction.after_import import after_import, instead
from harness.prediction.followed_functions import count_given, use_inside
from harness.prediction.number_uses import LISTENERS, used
from harness.prediction.unknown_numbers import Unknown, UnknownWhole, known, unknown
from harness.prediction.unknown_texts import TEXTS, Text, text_of

_TYPES: Final = (str, set, dict, tuple, type, float, int, Unknown, UnknownWhole, Text)
_MADE: Final = (decimal.Decimal, datetime.timedelta, array.array)
"""Types whose constructors use numbers; ``_READING`` names their methods that use numbers."""
_MOST_MADE: Final = 4
_READING: Final[dict[type, str]] = {array.array: "append extend fromlist insert __setitem__"}
_READING[decimal.Decimal] = "from_float __eq__ __ne__ __lt__ __le__ __gt__ __ge__"
_OBJECT: Final = ctypes.py_object


def _format(text: str, number: Any) -> Any:
    return text_of(text, number.place)


def _contains(number: Any, is_in: int) -> int:
    return LISTENERS[0].compared(number.place, bool(is_in), opposite=type(number) is Unknown)


def _is_plain(_: Any) -> int:
    return not is_own(sys._getframe(1).f_code.co_filename)


def _number(given: Any, is_real: int) -> Any:
    """Convert a value to ``float`` or ``int``; the result of an unknown value stays unknown."""
    try:
        value = given.item() if hasattr(given, "item") else given
        place = TEXTS[value] if type(value) is str else getattr(value, "place", None)
        if type(value) is (Unknown if is_real else UnknownWhole):
            return value
        if place is not None:
            used(place)
        kind: Any = float if is_real else int
        result = kind.__new__(kind, known(value))
        return result if place is None else unknown(result, place)
    except Exception:
        return given  # Python raises it


_CALLED: Final = (
    ctypes.PYFUNCTYPE(_OBJECT, _OBJECT, _OBJECT)(_format),
    ctypes.PYFUNCTYPE(ctypes.c_int, _OBJECT, ctypes.c_int)(_contains),
    ctypes.PYFUNCTYPE(ctypes.c_int, _OBJECT)(_is_plain),
    ctypes.PYFUNCTYPE(None, _OBJECT)(use_inside),
    ctypes.PYFUNCTYPE(_OBJECT, _OBJECT, ctypes.c_int)(_number),
)


def follow_in_python(torch: Any) -> None:
    """Make Python's types call this module; do nothing in a free-threaded Python."""
    if "t" in sys.abiflags:
        return
    types = (*_TYPES, torch.Tensor, *_MADE)
    pointers = (ctypes.c_void_p * (len(types) + _MOST_MADE))(*map(id, types))
    places = [ctypes.cast(one, ctypes.c_void_p) for one in _CALLED]
    called = (ctypes.c_void_p * len(places))(*places)
    ctypes.CDLL(None).pretend_in_python(pointers, called, _OBJECT(TEXTS))
    for owner, names in _READING.items():
        for name in names.split():
            count_given(owner, name)
    after_import("sqlite3", lambda sqlite: sqlite.register_adapter(Unknown, Unknown.__float__))
    after_import("pandas._libs.lib", _count_in_columns)


def _count_in_columns(lib: ModuleType) -> None:
    @instead(lib, "maybe_convert_objects")
    def convert(real: Any, objects: Any, *rest: Any, **named: Any) -> Any:
        use_inside(objects.tolist())
        return real(objects, *rest, **named)
