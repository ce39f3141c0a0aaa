"""Finds the tensors in nested containers."""

from collections.abc import Iterator, Mapping

from torch import Tensor


def tensors(value: object) -> Iterator[Tensor]:
    """Yield every tensor in ``value`` and in its nested mappings, lists, tuples and sets."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from tensors(item)
