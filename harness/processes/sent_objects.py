"""Pickles the user's Python objects for another process, including the code of functions."""

import dis
import io
import sys
from collections import ChainMap
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any, ClassVar

import cloudpickle

from harness.schema.errors import StepError

_BY_NAME = ("LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")


def _code(code: CodeType) -> Any:
    """Return the pickle reduction of a code object, with the file name that cloudpickle drops."""
    make, given = cloudpickle.Pickler.dispatch_table[CodeType](code)
    return make, tuple(code.co_filename if one == "<dynamic-code>" else one for one in given)


def _names_in_classes(code: CodeType) -> Iterator[str]:
    """Yield names that class bodies inside a function load; cloudpickle ignores these names."""
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from (one.argval for one in dis.get_instructions(inner) if one.opname in _BY_NAME)
            yield from _names_in_classes(inner)


class Named(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickler that keeps file names, so that the worker's report can name the user's lines."""

    dispatch_table: ClassVar = ChainMap({CodeType: _code}, cloudpickle.Pickler.dispatch_table)

    def reducer_override(self, obj: Any) -> Any:
        """Return the pickle reduction of an object."""
        made = super().reducer_override(obj)
        if isinstance(obj, FunctionType) and made is not NotImplemented:
            names, known = _names_in_classes(obj.__code__), obj.__globals__
            made[2][1]["__globals__"].update((one, known[one]) for one in names if one in known)
        return made


def sent(objects: dict[str, Any], pickler: type[Named] = Named) -> bytes:
    """Pickle the objects; raise StepError if an object cannot be pickled."""
    if "__mp_main__" in sys.modules:  # the script, in a process that multiprocessing has spawned
        cloudpickle.register_pickle_by_value(sys.modules["__mp_main__"])
    for name, value in objects.items():
        try:
            _pickled(value, pickler)
        except Exception as error:
            why = " ".join(str(error).split())[:200]
            raise StepError(f"{name} cannot be sent to the worker: {why}") from error
    return _pickled(objects, pickler)


def _pickled(value: object, pickler: type[Named]) -> bytes:
    buffer = io.BytesIO()
    pickler(buffer).dump(value)
    return buffer.getvalue()
