"""Calls functions after a module is imported, and replaces functions."""

import functools
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import harness.training  # noqa: F401  a script may have a package called harness, which hides it later


def instead(owner: Any, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Replace ``owner.name`` by the decorated function; its first argument is the old function."""
    real = getattr(owner, name)

    def put(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(real)
        def called(*arguments: Any, **named: Any) -> Any:
            return function(real, *arguments, **named)

        setattr(owner, name, called)
        return called

    return put


def after_import(name: str, function: Callable[[ModuleType], None]) -> None:
    """Call ``function`` with a module as soon as the module is imported."""
    if getattr(sys.modules.get(name), "__spec__", None):  # a stand-in has none
        function(sys.modules[name])
    else:
        sys.meta_path.insert(0, _AfterImport(name, function))


@dataclass
class _AfterImport:
    """Import hook that calls a function after a given module is loaded."""

    name: str
    function: Callable[[ModuleType], None]
    looks: bool = False

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        """Return the spec of the module, with a loader that also calls the function."""
        if name != self.name or self.looks:
            return None
        self.looks = True
        spec = importlib.util.find_spec(name)
        self.looks = False
        if spec is not None and spec.loader is not None:

            @instead(spec.loader, "exec_module")
            def execute(real: Callable[[ModuleType], None], module: ModuleType) -> None:
                real(module)
                if self in sys.meta_path:  # until now: who looks for the module may not load it
                    sys.meta_path.remove(self)
                    self.function(module)

        return spec
