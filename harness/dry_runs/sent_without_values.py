"""Pickles the user's Python objects for a worker, without the values of large parameters.

A large floating-point parameter is sent without its values, because the values do not affect memory
on a pretended GPU. The worker rejects a step that reads the missing values on the host.
"""

import io
from typing import Any

from harness.processes.sent_objects import Named, sent

LARGE_BYTES = 1 << 20
"""Parameters of at least this size, in bytes, are sent without their values."""


def sent_without_values(objects: dict[str, Any]) -> bytes:
    """Pickle the objects; leave out the values of large parameters."""
    return sent(objects, _Pickler)


class _Pickler(Named):
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
