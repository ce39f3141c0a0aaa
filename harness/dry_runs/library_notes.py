"""Notes about the buffer sizes that PyTorch queried from NVIDIA's libraries in this process.

The stub counts the queries (``stub/pretend.h``). Only cuDNN's graph API returns real sizes without
a GPU.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from harness.schema.errors import UnsupportedError
from harness.schema.units import format_bytes

OLD = (
    "convolutions and cuDNN's attention: cuDNN {} names no workspace without a GPU; 9.8 and newer"
    " do (torch 2.8 and newer)"
)
_ANSWERS, _IS_OLD, _TIMES_PLANS, _MANAGED = 1, 2, 4, 512
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
    _MANAGED: "managed memory (paged optimizers): {} at most, in no peak; on the GPU where there is"
    " room, else on the host; what kernels write there reads as zero",
}
_AUTOTUNED = (
    "torch.compile's autotuned convolutions: a GPU takes the fastest kernel, here it is cuDNN's,"
    " whose workspace is at most {}; a Triton kernel has none; the first step tries all"
)
_autotuned: list[int] = []
_COUNTED = "kinds least most executed managed most_managed"
_TENSORS = (
    ((2, 8, 16, 16), (2048, 256, 16, 1)),
    ((8, 8, 3, 3), (72, 9, 3, 1)),
    ((2, 8, 16, 16), (2048, 256, 16, 1)),
)
"""Sizes and strides of a convolution's input, weights and output."""
_C_TYPES = {
    1: ctypes.c_int,
    3: ctypes.c_int64,
    7: ctypes.c_int,
    8: ctypes.c_int,
    15: ctypes.c_void_p,
}
"""C types of cuDNN's attributes, by the type's number in ``cudnnBackendAttributeType_t``."""
ENGINE_MISSING = "unable to find an engine"
"""PyTorch's error message if cuDNN has no engine whose workspace fits."""


class _Answers(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in _COUNTED.split())


def _answers() -> _Answers:
    ask = ctypes.CDLL(None).harness_dry_run_answers
    ask.restype = ctypes.POINTER(_Answers)
    answers: _Answers = ask().contents
    return answers


def _version() -> str:
    number = int(ctypes.CDLL(None).cudnnGetVersion())
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def remember_autotuned() -> None:
    """Store the workspace size of the cuDNN engine that ran last, for the note about autotuning."""
    _autotuned.append(int(_answers().executed))


def library_notes() -> tuple[str, ...]:
    """Return a note for each NVIDIA library from which this process queried a size."""
    answers = _answers()
    sizes = {
        _ANSWERS: (_version(),),
        _TIMES_PLANS: map(format_bytes, (answers.least, answers.most)),
        _MANAGED: (format_bytes(answers.most_managed),),
    }
    notes = [
        text.format(*sizes.get(kind, ())) for kind, text in _KINDS.items() if answers.kinds & kind
    ]
    if _autotuned:
        notes.append(_AUTOTUNED.format(format_bytes(max(_autotuned))))
    return tuple(notes)


def ask_cudnn_once(notes: tuple[str, ...]) -> None:
    """Let cuDNN plan one convolution in this process if ``notes`` say that a fork uses cuDNN.

    Later forks inherit cuDNN's internal objects, which shortens a fork's run time by a third.
    """
    if _KINDS[_ANSWERS].format(_version()) in notes:
        _plan_a_convolution(os.getpid())


@cache
def _plan_a_convolution(process: int) -> None:
    """Plan one convolution per process, because cuDNN's objects depend on the process's GPU."""
    del process
    answers, count, engines = _answers(), ctypes.c_int64(), (ctypes.c_void_p * 10)()
    asked_before = answers.kinds
    x, w, y = (
        _described(17, (900, 3, 16), (901, 1, 0), (902, 3, *sizes), (903, 3, *strides), (906, 3, n))
        for n, (sizes, strides) in enumerate(_TENSORS)
    )
    fields = ((field, 3, 1, 1) for field in range(102, 106))
    how = _described(1, (100, 1, 0), (101, 7, 1), *fields, (106, 3, 2))
    forward = _described(10, (702, 15, how), (703, 15, w), (704, 15, x), (705, 15, y))
    choice = _described(4, (200, 8, 1), (201, 15, _described(15, (801, 15, forward))))
    engines[:] = [_described(3).value for _ in engines]
    ctypes.CDLL(None).cudnnBackendGetAttribute(
        choice, 202, 15, ctypes.c_int64(len(engines)), ctypes.byref(count), engines
    )
    _described(5, (401, 15, engines[0]))
    answers.kinds = asked_before


def _described(kind: int, *attributes: tuple[Any, ...]) -> ctypes.c_void_p:
    """Create a descriptor of cuDNN's graph API with the given attributes.

    Each attribute is a tuple of name, type and values; names and types are cuDNN's numbers.
    """
    library, made = ctypes.CDLL(None), ctypes.c_void_p()
    library.cudnnBackendCreateDescriptor(kind, ctypes.byref(made))
    for name, type_of, *values in attributes:
        array = (_C_TYPES[type_of] * len(values))(*values)
        library.cudnnBackendSetAttribute(made, name, type_of, ctypes.c_int64(len(values)), array)
    if attributes:
        library.cudnnBackendFinalize(made)
    return made


@contextmanager
def refusing_old_cudnn() -> Iterator[None]:
    """Raise UnsupportedError instead of PyTorch's error if cuDNN is too old for a dry run."""
    try:
        yield
    except RuntimeError as error:
        if _answers().kinds & _IS_OLD:
            raise UnsupportedError(OLD.format(_version())) from error
        raise
