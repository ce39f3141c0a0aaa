"""Delays loading ``torch._dynamo`` until code uses it, because loading takes a second.

Optimizers and torchvision import the compiler without using it. An optimizer's step excludes itself
from compilation, and torchvision imports a function for compiled code. For optimizers and
torchvision, a stand-in module is enough; any other use loads the compiler.
"""

import importlib
import importlib.util
import mmap
import os
import sys
from collections.abc import Callable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

COMPILER = "torch._dynamo"
PART = f"{COMPILER}.utils"

_untouched: list[Any] = []
"""Functions that PyTorch excluded from compilation before the compiler was loaded."""

_wanted = mmap.mmap(-1, 1)
"""Byte of shared memory, which is 1 after this process or a fork has loaded the compiler."""


class _StandIn(ModuleType):
    """Module that loads the real module when code reads an unknown attribute."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # imports and ``inspect`` ask every module for these
            raise AttributeError(name)
        return getattr(_real(self.__name__), name)


class _Parts(MetaPathFinder, Loader):
    """Import hook that loads the compiler when code imports a submodule of the compiler."""

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        """Return an import specification for a submodule of the compiler, else None."""
        return importlib.util.spec_from_loader(name, self) if name.startswith(COMPILER) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Load the compiler, and return the real module."""
        return _real(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing, because the module is already loaded."""


_PARTS = _Parts()


def postpone() -> None:
    """Replace the compiler's module by a stand-in; call this before the compiler is loaded."""
    whole, part = _StandIn(COMPILER), _StandIn(PART)
    whole.__path__ = [str(Path(torch.__file__).parent / "_dynamo")]
    vars(whole).update(disable=_disable, graph_break=_graph_break, utils=part)
    vars(part).update(is_compile_supported=_is_compile_supported)
    sys.modules.update({COMPILER: whole, PART: part})
    sys.meta_path.insert(0, _PARTS)
    os.register_at_fork(before=_load_if_wanted)


def load() -> None:
    """Load the compiler."""
    _real(COMPILER)


def _load_if_wanted() -> None:
    """If an earlier fork has loaded the compiler, load the compiler before the next fork."""
    if _wanted[0]:
        load()


def _real(name: str) -> ModuleType:
    """Remove the stand-ins, load the compiler, and return the compiler's module ``name``."""
    if _PARTS in sys.meta_path:
        sys.meta_path.remove(_PARTS)
        del sys.modules[COMPILER], sys.modules[PART]
        for function in _untouched:
            del function.__dynamo_disable
        _wanted[0] = 1
    importlib.import_module(COMPILER)
    return importlib.import_module(name)


def _disable(function: Any = None, *arguments: Any, wrapping: bool = True, **named: Any) -> Any:
    """Return ``function`` unchanged for PyTorch's calls, which pass ``wrapping=False``."""
    if wrapping or _PARTS not in sys.meta_path:
        disable: Callable[..., Any] = _real(COMPILER).disable
        return disable(function, *arguments, wrapping=wrapping, **named)
    _untouched.append(function)
    return function


def _graph_break(*arguments: Any, **named: Any) -> None:
    """Do nothing, as ``torch._dynamo.graph_break`` does outside compiled code."""


def _is_compile_supported(device_type: str) -> bool:
    """Load the compiler, and call the compiler's own ``is_compile_supported``."""
    answer: bool = _real(PART).is_compile_supported(device_type)
    return answer
