"""NVIDIA's libraries that PyTorch asked for sizes in this process, and what they answered.

The stub counts them (``stub/pretend.h``). Only cuDNN's graph interface answers without a GPU.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

from harness.schema.errors import UnsupportedError
from harness.schema.units import format_bytes

OLD = (
    "convolutions and cuDNN's attention: cuDNN {} names no workspace without a GPU; 9.8 and newer"
    " do (torch 2.8 and newer)"
)
_ANSWERS, _IS_OLD, _TIMES_PLANS = 1, 2, 4
_KINDS = {
    _ANSWERS: "cuDNN {} chose the engines of convolutions and attention for this GPU, and their"
    " workspaces are counted; another version may choose others",
    _TIMES_PLANS: "torch.backends.cudnn.benchmark: a GPU takes the fastest engine, here it is the"
    " heuristics' first; the first step tries all and its peak counts the largest workspace; later"
    " a convolution takes between {} and {}",
    8: "cuDNN's recurrent layers: what the backward pass must keep is counted, their workspace and"
    " cuDNN's own reserve are not",
    16: "cuDNN's batch normalization of channels-last half precision: its workspace is not counted",
    32: "cuDNN's CTC loss: its workspace is not counted",
    64: "cuSOLVER: the buffers of factorizations are not counted",
    128: "cuFFT: its work area is counted as one copy of the transform; NVIDIA says none to eight",
    256: "cuSPARSE: the buffers of sparse products are not counted",
}
_AUTOTUNED = (
    "torch.compile's autotuned convolutions: a GPU takes the fastest kernel, here it is cuDNN's,"
    " whose workspace is at most {}; a Triton kernel has none; the first step tries all"
)
_autotuned: list[int] = []
ENGINE_MISSING = "unable to find an engine"
"""PyTorch says so where no engine of cuDNN finds memory for its workspace."""


class _Answers(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("kinds", "least", "most", "executed"))


def _answers() -> _Answers:
    ask = ctypes.CDLL(None).harness_dry_run_answers
    ask.restype = ctypes.POINTER(_Answers)
    answers: _Answers = ask().contents
    return answers


def _version() -> str:
    number = int(ctypes.CDLL(None).cudnnGetVersion())
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def remember_autotuned() -> None:
    """Keep the workspace of cuDNN's engine that ran last: it competes with Triton's kernels."""
    _autotuned.append(int(_answers().executed))


def library_notes() -> tuple[str, ...]:
    """Return a note for each library that was asked for a size in this process."""
    answers = _answers()
    sizes = {
        _ANSWERS: (_version(),),
        _TIMES_PLANS: map(format_bytes, (answers.least, answers.most)),
    }
    notes = [
        text.format(*sizes.get(kind, ())) for kind, text in _KINDS.items() if answers.kinds & kind
    ]
    if _autotuned:
        notes.append(_AUTOTUNED.format(format_bytes(max(_autotuned))))
    return tuple(notes)


def open_cudnn() -> None:
    """Load cuDNN's libraries, so that forks of this process need not."""
    ctypes.CDLL(None).harness_dry_run_open_cudnn()


@contextmanager
def refusing_old_cudnn() -> Iterator[None]:
    """Raise UnsupportedError in place of what PyTorch raises where cuDNN cannot be asked."""
    try:
        yield
    except RuntimeError as error:
        if _answers().kinds & _IS_OLD:
            raise UnsupportedError(OLD.format(_version())) from error
        raise
