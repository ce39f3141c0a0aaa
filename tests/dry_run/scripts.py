"""Scripts for the tests of the dry run."""

from pathlib import Path

TAKE = (
    "import ctypes\n"
    "ctypes.CDLL(None).cudaMalloc(ctypes.byref(ctypes.c_void_p()), ctypes.c_size_t({}))"
)
"""Takes memory of the GPU without PyTorch, which takes seconds to import."""


def script(folder: Path, text: str) -> Path:
    """Write a script."""
    path = folder / "script.py"
    path.write_text(text)
    return path
