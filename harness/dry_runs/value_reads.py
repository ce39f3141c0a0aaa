"""Counts the reads of GPU values at each place, and separates known from unknown values.

The stub (``stub/values``) calls this module for each copy from the GPU to the host. The copy
contains the true values if they are known, else the user's answer, else made-up values
(``trial_values.py``). If the size of an operator's result is unknown, the stub first asks this
module for the size.

Like PyTorch's profiler, the harness registers a callback that PyTorch calls for each operator. If
all inputs are known, the operator's CPU kernel computes the result. A ``TorchDispatchMode`` is not
used, because this mode would make ``torch.compile`` run eagerly. PyTorch also calls the callback in
autograd's threads and in compiled code.
"""

import ctypes
import linecache
import os
import struct
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Final

from harness.dry_runs.begin_computing import begin_computing
from harness.dry_runs.own_code import users_frame
from harness.dry_runs.trial_values import (
    FIRST,
    FRACTIONS,
    TYPES,
    Trial,
    TrialValues,
    encoded,
)
from harness.dry_runs.value_answers import EVERYWHERE, Answer, answer_at, as_size, as_value
from harness.dry_runs.value_places import ValueRead

_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_char_p
)
_Size = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_char_p, ctypes.c_int64)
_END: Final = _Callback(lambda *_: os._exit(1))
_BOOL, _LONG = 11, 4
_LABELS: Final = {type_ for type_, kind in TYPES.items() if kind not in f"{FRACTIONS}?"}
EQUAL: Final = b"aten::equal"
HARMLESS: Final = b"harmless"
"""Operator name of a read that has no effect on the script (``stub/cuda/memory.c``)."""
_COUNTED: Final = ("count", "bytes", "known", "open_sizes", "numbers", "integers")
_LISTENING: Final[list[object]] = []
"""Objects with callbacks that PyTorch calls until the process ends."""
NO_PYTHON = "a thread without Python"
_ONE_BYTES: Final = 8
"""Largest size of a single value, in bytes."""
_PRINTING, _OFFLOADING = (f"/torch/{name}" for name in ("_tensor_str.py", "autograd/graph.py"))
"""PyTorch's source files that read values only to print them or to copy them."""
_SHARDING = "/torch/distributed/fsdp/"
"""Folder of FSDP, which copies gradients to the host for an optimizer there."""
_SAVING = "/torch/serialization.py", "/safetensors/torch.py"
"""Source files that read values to save them to disk."""
_MOST_FRAMES: Final = 12
_MOST_SAVED, _MOST_VARIED = 1 << 16, 1 << 24
"""Size limits in bytes. A larger saved tensor is taken for weights, which are zeros. In a longer
copy to the host, only the first bytes are made up; the rest are zeros."""


@dataclass(kw_only=True)
class _Place:
    """Counters for the reads in one line; see ``ValueRead``."""

    file: str
    line: int
    answer: Answer | None
    always: bool
    """True if the user gave an answer for this line; the answer then also replaces known values."""
    only_sizes: bool
    """True if the user gave ``all`` or ``none`` for all places; this sets sizes but not values."""
    operator: str
    counts: Counter[str] = field(default_factory=Counter)
    answered: bool = False
    sizes: set[str] = field(default_factory=set)
    lines: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        """Return the line, or the operator if the reading thread does not run Python."""
        if self.file:
            return f"{self.file}:{self.line}"
        return f"{self.operator} in {NO_PYTHON}" if self.operator else NO_PYTHON


def _files(frame: FrameType | None) -> list[str]:
    """Return the files of a frame and its callers, the innermost first."""
    files: list[str] = []
    while frame is not None and len(files) < _MOST_FRAMES:
        files.append(frame.f_code.co_filename)
        frame = frame.f_back
    return files


def _asking() -> FrameType | None:
    """Return the innermost frame outside this module."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return frame


class ValueReads:
    """Counts reads by place, and returns made-up values in place of unknown values.

    Args:
        answers: the user's answers, by ``FILE:LINE``.
        trial: the values that this run makes up.
        on_use: called when the first value is made up.
    """

    def __init__(
        self,
        answers: Mapping[str, Answer],
        *,
        trial: Trial = FIRST,
        on_use: Callable[[], object] = lambda: None,
    ) -> None:
        self._answers = answers
        self._on_use = on_use
        self._places: dict[tuple[str, int], _Place] = {}
        self._callbacks = _Callback(self._on_read), _Size(self._on_size)
        self._library: ctypes.CDLL | None = None
        self._known: dict[tuple[int, int], bytes] = {}
        self.uses: Counter[str] = Counter()
        """Number of made-up values, by place; for a copy of FSDP, the place is FSDP's file."""
        self.last_truth: str | None = None
        """The line that last asked for a truth."""
        self.trial = trial

    @property
    def trial(self) -> Trial:
        """The values that this run makes up."""
        return self._trial

    @trial.setter
    def trial(self, trial: Trial) -> None:
        self._trial, self._values = trial, TrialValues(trial)

    def listen(self) -> None:
        """Register this object with the stub, so that the stub calls it for each read."""
        _LISTENING.append(self)
        on_read, on_size = self._callbacks
        ctypes.CDLL(None).pretend_on_read(on_read)
        self._library = begin_computing(on_size)

    def end_at_a_read(self) -> None:
        """Stop tracking values; from now on, end this process if it reads a GPU value."""
        ctypes.CDLL(None).pretend_on_read(_END)
        if self._library is not None:
            self._library.harness_follow_values(None)

    def _use(self, name: str) -> None:
        if not self.uses:
            self._on_use()
        self.uses[name] += 1

    def _truth(self, place: _Place) -> bool:
        """Return the truth of an unknown condition, which depends on the line that asks for it."""
        self._use(place.name)
        frame = _asking()
        line = place.name if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"
        place.lines.add(line)
        self.last_truth = line
        return self._values.truth(line)

    def _on_read(
        self, destination: int, size: int, known: int, type_: int, operator: bytes | None
    ) -> int:
        """Replace unknown values in a copy.

        Returns:
            1 for the user's answer, 2 for a made-up number, which the tensor holds from now on,
            else 0.
        """
        place = self._place(operator)
        place.counts.update(count=1, bytes=size)
        value, answered = None, False
        if place.answer is not None and not place.only_sizes and (place.always or not known):
            place.answered = answered = True
            value = encoded([as_value(place.answer)], size, type_)
        elif known:
            place.counts["known"] += 1
            if type_ in _LABELS and _ONE_BYTES < size <= _MOST_SAVED:
                self._known[type_, size] = ctypes.string_at(destination, size)
        elif operator != HARMLESS:
            value = self._made_up(place, size, type_, sys._getframe().f_back)
        if value is not None:
            ctypes.memmove(destination, value, len(value))
        is_number = value is not None and size <= _ONE_BYTES
        return 1 if answered else 2 * is_number

    def _made_up(
        self, place: _Place, size: int, type_: int, frame: FrameType | None
    ) -> bytes | None:
        """Return made-up bytes for a read of unknown values; None means zeros that no line uses."""
        if type_ not in TYPES:
            return None
        files, is_fraction = _files(frame), TYPES[type_] in FRACTIONS
        is_saved = any(file.endswith(_SAVING) for file in files)
        if any(file.endswith(_PRINTING) for file in files) or (is_saved and size > _MOST_SAVED):
            return None
        if self._is_gradient(files, size, type_):
            return None
        if is_saved and size % _ONE_BYTES == 0:
            type_ = _LONG  # a storage is saved as bytes
        size = min(size, _MOST_VARIED)
        if type_ == _BOOL:
            return bytes([self._truth(place)]) * size
        is_offloaded = size > _ONE_BYTES and _SHARDING in files[0] if files else False
        self._use(files[0] if is_offloaded else place.name)
        is_one = size == struct.calcsize(f"<{TYPES[type_]}")
        place.counts.update(numbers=1, integers=int(not (is_fraction and is_one)))
        return self._values.take(place.name, size, type_, self._known.get((type_, size)))

    @staticmethod
    def _is_gradient(files: list[str], size: int, type_: int) -> bool:
        """Return whether autograd or ``save_on_cpu`` copies several floats to the host."""
        in_autograd = not files or any(file.endswith(_OFFLOADING) for file in files[:3])
        return in_autograd and TYPES[type_] in FRACTIONS and size > _ONE_BYTES

    def _on_size(self, operator: bytes, most: int) -> int:
        """Return 1 plus the size assumed for an operator's result; 0 if no size can be assumed."""
        if any(file.endswith(_PRINTING) for file in _files(sys._getframe().f_back)):
            return most + 1
        place = self._place(operator)
        if operator == EQUAL:
            place.counts.update(count=1)
            return 1 + self._truth(place)
        place.sizes.add(operator.decode())
        size = None if place.answer is None else as_size(place.answer, most)
        place.counts.update(count=1, open_sizes=int(size is None and most < 0))
        place.answered |= size is not None
        if size is None:
            size = most if self._truth(place) else min(most, 0)
        return 1 + size

    def _place(self, operator: bytes | None) -> _Place:
        """Return the place in the user's code that reads a value now."""
        frame = users_frame()
        file, line = ("", 0) if frame is None else (frame.f_code.co_filename, frame.f_lineno)
        place = self._places.get((file, line))
        if place is None:
            answer = answer_at(self._answers, file, line)
            always = answer is not None
            everywhere = self._answers.get(EVERYWHERE) if answer is None else None
            place = self._places[file, line] = _Place(
                file=file,
                line=line,
                answer=everywhere if answer is None else answer,
                always=always,
                only_sizes=isinstance(everywhere, str),
                operator=(operator or b"").decode(),
            )
        return place

    def places(self) -> tuple[ValueRead, ...]:
        """Return all places; places with the most reads come first."""
        reads = [
            ValueRead(
                place=one.name,
                text=linecache.getline(one.file, one.line).strip() if one.file else "",
                answer=one.answer if one.answered else None,
                sizes=tuple(sorted(one.sizes)),
                lines=tuple(sorted(one.lines)),
                **{name: one.counts[name] for name in _COUNTED},
            )
            for one in self._places.values()
        ]
        return tuple(sorted(reads, key=lambda read: (-read.count, read.place)))
