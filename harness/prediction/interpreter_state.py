"""Temporary changes of the Python interpreter during a prediction."""

import gc
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any


@contextmanager
def collection_paused() -> Iterator[None]:
    """Pause the garbage collector, which would double the time of a prediction."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def import_whole(name: str) -> None:
    """Import a module in another thread, and wait until the import ends.

    Ctrl-C does not interrupt the import, because a partial sympy would break later imports.
    """
    from concurrent.futures import ThreadPoolExecutor  # longer to load than a small prediction

    with ThreadPoolExecutor(1) as thread:
        thread.submit(importlib.import_module, name).result()


@contextmanager
def patched_here(place: object, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Replace ``place.name`` by ``function`` in a ``with`` block, only for the calling thread.

    Other threads must not see a simulated GPU or build networks of meta tensors.
    """
    real, stored, own = getattr(place, name), vars(place).get(name), get_ident()

    def chosen(*args: Any, **kwargs: Any) -> Any:
        return (function if get_ident() == own else real)(*args, **kwargs)

    setattr(place, name, chosen)
    try:
        yield
    finally:
        if stored is None:  # torch.backends.cudnn has its functions in a module behind it
            delattr(place, name)
        else:
            setattr(place, name, stored)
