"""Starts the computing of values in a process that has loaded PyTorch."""

import ctypes
import os
from collections.abc import Callable
from typing import Final

from harness.dry_runs.computed_regions import compute_regions
from harness.dry_runs.computing import computes
from harness.dry_runs.trial_values import LIBRARY_VARIABLE

_SIZE = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_char_p, ctypes.c_int64)
_SIZE_IS_UNKNOWN: Final = _SIZE(lambda *_: 0)


def begin_computing(on_size: Callable[[bytes, int], int] = _SIZE_IS_UNKNOWN) -> ctypes.CDLL:
    """Start computing values in this process, which has loaded PyTorch.

    Args:
        on_size: a function of ctypes that returns one more than the size of an operator's result
            whose size is not known; 0 if it cannot say.
    """
    library = ctypes.CDLL(os.environ[LIBRARY_VARIABLE])
    library.harness_follow_values(on_size)
    if computes():
        from harness.dry_runs.cpu_equivalents.table import offer_equivalents  # it needs PyTorch

        offer_equivalents()
        compute_regions()
    return library
