"""An import that Ctrl-C does not interrupt: half of sympy would break every later import of it."""

import importlib
from concurrent.futures import ThreadPoolExecutor


def import_whole(name: str) -> None:
    """Import a module in a thread of its own, and wait for its end."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(importlib.import_module, name).result()
