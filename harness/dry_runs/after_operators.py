"""Calls a Python function after about every 1,000 PyTorch operators that the script runs."""

import ctypes
import signal
import sys
from collections.abc import Callable
from typing import Any

_Look: Any = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
_add: Any = ctypes.pythonapi.Py_AddPendingCall
_interrupt: Any = ctypes.pythonapi.PyErr_SetInterruptEx


def call_after_operators(function: Callable[[], object]) -> object:
    """Make the main thread call ``function`` after about every 1,000 PyTorch operators.

    The caller must keep the returned object alive. ``torch.compile`` never compiles ``function``.
    """
    eval_frame: Any = sys.modules["torch"]._C._dynamo.eval_frame

    def look(_: int | None) -> int:
        compiling = eval_frame.set_eval_frame(None)
        try:
            function()
        except KeyboardInterrupt:  # no error leaves this function
            _add(_interrupt, ctypes.c_void_p(signal.SIGINT))
        finally:
            eval_frame.set_eval_frame(compiling)
        return 0

    called = _Look(look)
    ctypes.CDLL(None).pretend_look_after_operators(called, _add)
    return called
