"""The user's Python objects as bytes for another process: functions by value.

A function of the caller's script or notebook is sent as its code, a function of an installed
module by its name. A network that exists is sent without its values: what a step needs does not
depend on them, and the worker's tensors of that size are never written.
"""

import io
from collections import ChainMap
from types import CodeType
from typing import Any, ClassVar

import cloudpickle

from harness.schema.errors import StepError

LARGE_BYTES = 1 << 20
"""Storages from this size on are sent without their values."""


def sent(objects: dict[str, Any], *, with_values: bool = False) -> bytes:
    """Return the objects as bytes."""
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
    """Return how code is made again, with its file's name, which cloudpickle leaves out."""
    make, given = cloudpickle.Pickler.dispatch_table[CodeType](code)
    return make, tuple(code.co_filename if one == "<dynamic-code>" else one for one in given)


class _Named(cloudpickle.Pickler):  # type: ignore[misc]
    """Sends the files' names, so that the worker names the user's lines."""

    dispatch_table: ClassVar = ChainMap({CodeType: _code}, cloudpickle.Pickler.dispatch_table)


class _Pickler(_Named):
    """Sends a large storage as its size; tensors that share one share it again."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self._storages: dict[int, Any] = {}

    def reducer_override(self, obj: Any) -> Any:
        """Return how an object is made again."""
        import torch

        if isinstance(obj, torch.Tensor) and _is_large(obj):
            storage = self._storages.setdefault(obj.untyped_storage().data_ptr(), _Storage(obj))
            of_parameter = isinstance(obj, torch.nn.Parameter)
            place = (obj.storage_offset(), tuple(obj.shape), obj.stride())
            return _tensor, (storage, obj.dtype, *place, obj.requires_grad, of_parameter)
        return super().reducer_override(obj)


class _Storage:
    """A storage without its values; pickled once for all tensors that share it."""

    def __init__(self, tensor: Any) -> None:
        self.size_bytes = tensor.untyped_storage().nbytes()
        self.made: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {"size_bytes": self.size_bytes, "made": None}


def _is_large(tensor: Any) -> bool:
    import torch

    plain = type(tensor) in (torch.Tensor, torch.nn.Parameter)
    if not plain or tensor.layout != torch.strided or tensor.device.type != "cpu":
        return False
    return bool(tensor.untyped_storage().nbytes() >= LARGE_BYTES and tensor.is_leaf)


def _tensor(
    storage: _Storage,
    dtype: Any,
    offset: int,
    shape: tuple[int, ...],
    stride: tuple[int, ...],
    requires_grad: bool,
    is_parameter: bool,
) -> Any:
    """Return a tensor on a storage that has no values."""
    import torch

    if storage.made is None:
        storage.made = torch.UntypedStorage(storage.size_bytes)  # type: ignore[no-untyped-call]
    tensor = torch.empty(0, dtype=dtype).set_(storage.made, offset, shape, stride)
    if is_parameter:
        return torch.nn.Parameter(tensor, requires_grad=requires_grad)
    return tensor.requires_grad_(requires_grad)
