"""Loads PyTorch's compiler only if something uses it, because loading takes a second.

Two things name the compiler and do not need it: an optimizer's step asks not to be compiled, and
torchvision imports a function for compiled code. A stand-in answers both. Any other use loads the
compiler, which replaces the stand-in.
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
"""Functions of PyTorch that asked not to be compiled before the compiler was loaded."""

_wanted = mmap.mmap(-1, 1)
"""Shared memory of forks: not 0 once this process or a fork has loaded the compiler."""


class _StandIn(ModuleType):
    """Stand-in that the real module replaces once code asks for another attribute."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # imports and ``inspect`` ask every module for these
            raise AttributeError(name)
        return getattr(_real(self.__name__), name)


class _Parts(MetaPathFinder, Loader):
    """Finds modules below the compiler's module by loading the compiler."""

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        """Return a specification with this loader."""
        return importlib.util.spec_from_loader(name, self) if name.startswith(COMPILER) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the real module."""
        return _real(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module as it is."""


_PARTS = _Parts()


def postpone() -> None:
    """Put the stand-in in the compiler's place, if the process has not loaded the compiler."""
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
    """Load the compiler if a fork loaded it, so that the next fork need not load it."""
    if _wanted[0]:
        load()


def _real(name: str) -> ModuleType:
    """Return a module of the compiler after removing the stand-ins."""
    if _PARTS in sys.meta_path:
        sys.meta_path.remove(_PARTS)
        del sys.modules[COMPILER], sys.modules[PART]
        for function in _untouched:
            del function.__dynamo_disable
        _wanted[0] = 1
    importlib.import_module(COMPILER)
    return importlib.import_module(name)


def _disable(function: Any = None, *arguments: Any, wrapping: bool = True, **named: Any) -> Any:
    """Return a function unchanged if PyTorch asks; only PyTorch passes ``wrapping=False``."""
    if wrapping or _PARTS not in sys.meta_path:
        disable: Callable[..., Any] = _real(COMPILER).disable
        return disable(function, *arguments, wrapping=wrapping, **named)
    _untouched.append(function)
    return function


def _graph_break(*arguments: Any, **named: Any) -> None:
    """Do nothing, like the compiler outside of compiled code."""


def _is_compile_supported(device_type: str) -> bool:
    """Ask the compiler."""
    answer: bool = _real(PART).is_compile_supported(device_type)
    return answer
