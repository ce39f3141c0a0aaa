"""Messages of PyTorch's C++ code that a recording would print to standard error.

While it profiles memory, the CPU's allocator warns about every thousandth block that was
allocated before and is freed now (ProfiledCPUMemoryReporter::Delete, c10/core/CPUAllocator.cpp). In
a traced step these are the gradients of the step before, which the recorder adopts. The message has
no switch of its own, so c10's level is raised from warnings to errors while a recording runs.
Python's warnings, TORCH_WARN among them, do not pass there.
"""

import ctypes
import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

_ERROR = 2


@contextmanager
def quiet_kineto() -> Iterator[None]:
    """Keep Kineto from writing its own start and stop to standard error, unless asked to.

    It reads its level once per process, when it is first prepared.
    """
    if "KINETO_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["KINETO_LOG_LEVEL"] = "99"
    try:
        yield
    finally:
        del os.environ["KINETO_LOG_LEVEL"]


@contextmanager
def errors_only() -> Iterator[None]:
    """Raise c10's log level to errors, unless the user chose a level."""
    level = None if "TORCH_CPP_LOG_LEVEL" in os.environ else _log_level()
    if level is None or level.value >= _ERROR:
        yield
        return
    before, level.value = level.value, _ERROR
    try:
        yield
    finally:
        level.value = before


@functools.cache
def _log_level() -> ctypes.c_int | None:
    """Return c10's variable, or None for a build that does not export it."""
    folder = Path(torch.__file__).parent / "lib"
    try:
        library = ctypes.CDLL(str(next(folder.glob("*c10.*"))))
        return ctypes.c_int.in_dll(library, "FLAGS_caffe2_log_level")
    except (OSError, StopIteration, ValueError):
        return None
