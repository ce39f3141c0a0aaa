"""A function of PyTorch replaced while a step is estimated, for the thread that estimates alone.

Another thread would otherwise see a GPU that is not there, or build a network of meta tensors.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import get_ident
from typing import Any
from unittest import mock


def patched_here(
    place: object, name: str, function: Callable[..., Any]
) -> AbstractContextManager[object]:
    """Return a context in which the calling thread finds ``function`` in the place of another."""
    real, own = getattr(place, name), get_ident()

    def chosen(*args: Any, **kwargs: Any) -> Any:
        return (function if get_ident() == own else real)(*args, **kwargs)

    return mock.patch.object(place, name, chosen)
