"""Pickles the user's Python objects for another process, including the code of functions.

A large floating-point parameter is sent without its values, because they do not affect memory on a
pretended GPU. The worker rejects a step that reads these values on the host.
"""

import dis
import io
import sys
from collections import ChainMap
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any, ClassVar

import cloudpickle

from harness.schema.errors import StepError

LARGE_BYTES = 1 << 20
"""Parameters of at least this size, in bytes, are sent without their values."""
_BY_NAME = ("LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")


def sent(objects: dict[str, Any], *, with_values: bool = False) -> bytes:
    """Pickle the objects; raise StepError if an object cannot be pickled."""
    if "__mp_main__" in sys.modules:  # the script, in a process that multiprocessing has spawned
        cloudpickle.register_pickle_by_value(sys.modules["__mp_main__"])
    for name, value in objects.items():
        try:
            _pickled(value, with_values)
        except Exception as error:
            why = " ".join(str(error).split())[:200]
            raise StepError(f"{name} cannot be sent to the worker: {why}") from error
    return _pickled(objects, with_values)


def _pickled(value: object, with_values: bool) -> bytes:
    buffer = io.BytesIO()
    (_Named if with_values else _Pickler)(buffer).dump(value)
    return buffer.getvalue()


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


class _Named(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickler that keeps file names, so that the worker's report can name the user's lines."""

    dispatch_table: ClassVar = ChainMap({CodeType: _code}, cloudpickle.Pickler.dispatch_table)

    def reducer_override(self, obj: Any) -> Any:
        """Return the pickle reduction of an object."""
        made = super().reducer_override(obj)
        if isinstance(obj, FunctionType) and made is not NotImplemented:
            names, known = _names_in_classes(obj.__code__), obj.__globals__
            made[2][1]["__globals__"].update((one, known[one]) for one in names if one in known)
        return made


class _Pickler(_Named):
    """Pickler that sends large parameters without values; parameters can still share memory."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self._left: dict[int, Any] = {}

    def reducer_override(self, obj: Any) -> Any:
        """Return the pickle reduction of an object."""
        import torch

        if type(obj) is torch.nn.Parameter and _is_large(obj):
            memory = self._left.setdefault(obj.untyped_storage().data_ptr(), obj.untyped_storage())
            place = (obj.dtype, tuple(obj.shape), obj.stride(), obj.requires_grad)
            return _parameter, (memory, *place), vars(obj) or None
        if type(obj) is torch.UntypedStorage and id(obj) in map(id, self._left.values()):
            return _without_values, (obj.nbytes(),)
        return super().reducer_override(obj)


def _without_values(size_bytes: int) -> Any:
    """Return a storage without values; the receiving process calls this function."""
    import torch

    from harness.dry_runs.left_out_values import take

    storage = torch.empty(size_bytes, dtype=torch.uint8).untyped_storage()
    take(storage)
    return storage


def _is_large(parameter: Any) -> bool:
    import torch

    if parameter.layout != torch.strided or parameter.device.type != "cpu":
        return False
    whole = parameter.untyped_storage().nbytes() == parameter.nbytes
    return bool(whole and parameter.is_floating_point() and parameter.nbytes >= LARGE_BYTES)


def _parameter(
    storage: Any,
    dtype: Any,
    shape: tuple[int, ...],
    stride: tuple[int, ...],
    requires_grad: bool,
) -> Any:
    """Return a parameter on a storage without values."""
    import torch

    tensor = torch.empty(0, dtype=dtype).set_(storage, 0, shape, stride)
    return torch.nn.Parameter(tensor, requires_grad=requires_grad)
