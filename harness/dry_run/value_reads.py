"""Reads of GPU values: each is counted with the place that made it, known and unknown apart.

The stub calls back for each copy from the GPU to the host. The copy holds the true value where it
is known, and zeros otherwise; where the user gave an answer for the place, the answer is written
in their stead. An operator whose result's size is not known asks before it runs. An unknown
integer may become a size, and so may a fraction that the source rounds and a mask that is copied.

The stub gives device memory real bytes where a value is known (``stub/values.c``): after a copy
from the host, a fill, a copy of known bytes. The operators between (``arange``, ``==``, ``cumsum``,
``all``) are computed by their CPU kernels on those bytes (``stub/values.cpp``), when PyTorch
reports an operator as it does to its profiler (``at::RecordFunction``).

Nothing above the dispatcher changes: no mode that would make ``torch.compile`` run eagerly, no
reference to a tensor that FSDP2 could not swap, no Python for an operator, and the operator's own
allocations are made as ever. Autograd's threads and compiled code are observed alike.

A known value becomes unknown when its block is allocated anew, and when something that is not
followed may have written it: an operator that the list does not name, by its schema; a kernel
outside of any operator (Triton), by its arguments. Weights, activations and large floating-point
tensors are not followed, nor random numbers of the GPU, nor what a replayed CUDA graph or a
collective leaves behind.
"""

import ctypes
import linecache
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from harness.dry_run.dry_run_report import Answer, ValueRead
from harness.dry_run.own_code import users_frame
from harness.dry_run.unknown_sizes import becomes_integer
from harness.dry_run.value_answers import EVERYWHERE, answer_at, as_size, as_value
from harness.prediction.library_answers import library_answer

LIBRARY_VARIABLE = "HARNESS_DRY_RUN_VALUES"
"""Environment variable that holds the path of the library that ``build.py`` compiled."""

_Callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int)
_Size = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_char_p, ctypes.c_int64)

_FORMATS: Final = {0: "B", 1: "b", 2: "h", 3: "i", 4: "q", 5: "e", 6: "f", 7: "d", 11: "?"}
"""Formats of ``struct`` by PyTorch's numbers of types (``c10::ScalarType``)."""
_BFLOAT16: Final = 15
_INTEGERS: Final = {1: "b", 2: "h", 4: "i", 8: "q"}
_COUNTS: Final = (2, 3, 4)
"""Types of integers that may become sizes; one byte is an image's, or of a file that is saved."""
_FRACTIONS: Final = (5, 6, 7, _BFLOAT16)
_BOOL: Final = 11
_COUNTED: Final = ("count", "bytes", "known", "open_sizes", "integers")
_LISTENING: Final[list[object]] = []
"""PyTorch calls back as long as the process lives."""
NO_PYTHON = "a thread without Python"


@dataclass(kw_only=True)
class _Place:
    """Counts of one line; see ``ValueRead``."""

    file: str
    line: int
    answer: Answer | None
    always: bool
    """The user answered this very line, so the answer holds for known values too."""
    source: str | None = None
    count: int = 0
    bytes: int = 0
    known: int = 0
    answered: int = 0
    integers: int = 0
    sizes: set[str] = field(default_factory=set)
    open_sizes: int = 0


class ValueReads:
    """Counts reads by place; ``integer`` is what an unknown one gets if it may become a size."""

    def __init__(self, answers: Mapping[str, Answer], *, integer: int = 0) -> None:
        self._answers = answers
        self._integer = integer
        self._places: dict[tuple[str, int], _Place] = {}
        self._callbacks = _Callback(self._on_read), _Size(self._on_size)

    def listen(self) -> None:
        """Have the stub call back; it is loaded in every process of a dry run."""
        _LISTENING.append(self)
        on_read, on_size = self._callbacks
        ctypes.CDLL(None).pretend_on_read(on_read)
        ctypes.CDLL(os.environ[LIBRARY_VARIABLE]).harness_follow_values(on_size)

    def _on_read(self, destination: int, size: int, known: int, type_: int) -> None:
        place = self._place()
        place.count += 1
        place.bytes += size
        if place.answer is None or (known and not place.always):
            place.known += known
            if known or not _may_be_size(place, size, type_):
                return
            place.integers += 1
            if self._integer == 0:
                return
            answer: float = self._integer
        else:
            place.answered += 1
            answer = as_value(place.answer)
        value = _encoded(answer, size, type_)
        ctypes.memmove(destination, value, len(value))

    def _on_size(self, operator: bytes, most: int) -> int:
        """Return the size of an operator's result plus 1; 0 if no answer gives it.

        0 is also what ctypes returns for an error that is raised in here.
        """
        place = self._place()
        place.count += 1
        place.sizes.add(operator.decode())
        size = None if place.answer is None else as_size(place.answer, most)
        place.open_sizes += size is None
        place.answered += size is not None
        return 0 if size is None else size + 1

    def _place(self) -> _Place:
        """Return the place that reads."""
        frame = users_frame()
        file, line = ("", 0) if frame is None else (frame.f_code.co_filename, frame.f_lineno)
        place = self._places.get((file, line))
        if place is None:
            answer, source = answer_at(self._answers, file, line), None
            always = answer is not None
            if frame is not None and answer is None:
                answer, source = library_answer(file, frame.f_code.co_name)
            if answer is None:
                answer = self._answers.get(EVERYWHERE)
            place = _Place(file=file, line=line, answer=answer, always=always, source=source)
            self._places[file, line] = place
        return place

    def places(self) -> tuple[ValueRead, ...]:
        """Return the places, those with most reads first."""
        reads = [
            ValueRead(
                place=f"{one.file}:{one.line}" if one.file else NO_PYTHON,
                text=linecache.getline(one.file, one.line).strip() if one.file else "",
                answer=one.answer if one.answered else None,
                source=one.source if one.answered else None,
                sizes=tuple(sorted(one.sizes)),
                **{name: getattr(one, name) for name in _COUNTED},
            )
            for one in self._places.values()
        ]
        return tuple(sorted(reads, key=lambda read: (-read.count, read.place)))


def _may_be_size(place: _Place, size: int, type_: int) -> bool:
    if type_ in _FRACTIONS:
        return becomes_integer(place.file, place.line)
    return type_ in _COUNTS or (type_ == _BOOL and size > 1)


def _encoded(answer: float, size: int, type_: int) -> bytes:
    """Return the answer as the bytes that the reader expects, an integer where unknown."""
    if type_ == _BFLOAT16:
        one = struct.pack("<f", answer)[2:]
    else:
        kind = _FORMATS.get(type_, _INTEGERS.get(size, "B"))
        one = struct.pack(f"<{kind}", answer if kind in "efd?" else int(answer))
    return one * (size // len(one))
