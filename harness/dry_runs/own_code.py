"""Distinguishes files of PyTorch, Python and the harness from the user's files."""

import os
import sys
import sysconfig
import threading
from pathlib import Path
from types import FrameType

INDUCTOR_CACHE = "TORCHINDUCTOR_CACHE_DIR"
_HARNESS = Path(__file__).parent.parent
_STANDARD = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))


def is_own(file: str) -> bool:
    """Return whether a file is generated or belongs to PyTorch, Triton, Python or the harness."""
    torch = sys.modules.get("torch")
    of_torch = Path(torch.__file__ or "").parent if torch is not None else None
    folders = (_HARNESS, of_torch, os.environ.get(INDUCTOR_CACHE))
    begins = ("<", "codegen.py:", *(f"{folder}/" for folder in folders if folder is not None))
    of_python = file.startswith(_STANDARD) and "site-packages" not in file
    return file.startswith(begins) or of_python or "site-packages/triton/" in file


def users_frame() -> FrameType | None:
    """Return the innermost frame of the user's code in this thread, or else in the main thread.

    A function must not store its own frame, as the resulting reference cycle keeps tensors alive.
    """
    frame = _users(sys._getframe(1))
    if frame is None:
        frame = _users(sys._current_frames().get(threading.main_thread().ident or 0))
    return frame


def _users(frame: FrameType | None) -> FrameType | None:
    while frame is not None and is_own(frame.f_code.co_filename):
        frame = frame.f_back
    return frame
