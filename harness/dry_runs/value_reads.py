"""Counts the reads of GPU values at each place, and separates known from unknown values.

The stub (``stub/values``) calls this module for each copy from the GPU to the host. The copy
contains the true values if they are known, else the user's answer, else substitute values. If the
size of an operator's result is unknown, the stub first asks this module for the size. A single
number that a script reads is tracked until a decision uses it (``unknown_numbers.py``).

Like PyTorch's profiler, the harness registers a callback that PyTorch calls for each operator. If
all inputs are known, the operator's CPU kernel computes the result. A ``TorchDispatchMode`` is not
used, because this mode would make ``torch.compile`` run eagerly. PyTorch also calls the callback in
autograd's threads and in compiled code. Values of large floating-point tensors, GPU random numbers,
replayed CUDA graphs and collectives are not tracked.
"""

import ctypes
import linecache
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Final

from harness.dry_runs.own_code import is_own, users_frame
from harness.dry_runs.python_types import follow_in_python
from harness.dry_runs.trial_values import LIBRARY_VARIABLE, TYPES, Sides, TrialValues, encoded
from harness.dry_runs.unknown_decisions import Decisions, is_said
from harness.dry_runs.value_answers import EVERYWHERE, Answer, answer_at, as_size, as_value
from harness.dry_runs.value_places import ValueRead
from harness.prediction import followed_functions
from harness.prediction.after_import import instead

_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_char_p
)
_Size = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_char_p, ctypes.c_int64)
_END: Final = _Callback(lambda *_: os._exit(1))
_BOOL: Final = 11
EQUAL: Final = b"aten::equal"
HARMLESS: Final = b"harmless"
"""Operator name of a read that has no effect on the script (``stub/cuda/memory.c``)."""
_COUNTED: Final = ("count", "bytes", "known", "open_sizes", "integers")
_LISTENING: Final[list[object]] = []
"""Objects with callbacks that PyTorch calls until the process ends."""
NO_PYTHON = "a thread without Python"
_FRACTIONS: Final = "efd"
"""Floating-point formats of ``TYPES``."""
_ONE_BYTES: Final = 8
"""Largest size of a single value, in bytes."""
_PRINTING, _OFFLOADING = (f"/torch/{name}" for name in ("_tensor_str.py", "autograd/graph.py"))
"""PyTorch's source files that read values only to print them or to copy them."""
_SAVING = "/torch/serialization.py", "/safetensors/torch.py"
"""Source files that read values to save them to disk."""
_SHARDED = tuple(
    f"/torch/distributed/fsdp/{name}.py"
    for name in ("_fully_shard/_fsdp_collectives", "_fully_shard/_fsdp_param", "_runtime_utils")
)
"""FSDP's source files that send parameters and gradients to an optimizer on the host."""
_MOST_FRAMES: Final = 12
_MOST_SAVED, _MOST_VARIED = 1 << 16, 1 << 24
"""Size limits in bytes. A saved tensor up to the first size is treated as a number, not as weights.
In a copy to the host, only bytes up to the second limit differ between runs; the rest are zeros."""


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
    saved: int = 0
    sizes: set[str] = field(default_factory=set)

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


def _sender(frame: FrameType | None) -> str:
    """Return PyTorch's line that copies a shard to the host; "" if the read copies no shard."""
    for _ in range(_MOST_FRAMES):
        if frame is None or not is_own(frame.f_code.co_filename):
            break
        if frame.f_code.co_filename.endswith(_SHARDED):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


class ValueReads:
    """Counts reads by place, and returns substitutes for unknown values.

    Args:
        answers: the user's answers, by ``FILE:LINE``.
        trial: number of the trial; in trial 0, unknown values are zeros.
        decided: fixed results of decisions, by line (see ``Decisions``).
        on_use: called when an unknown value is first used.
    """

    def __init__(
        self,
        answers: Mapping[str, Answer],
        *,
        trial: int = 0,
        decided: Mapping[str, bool] | None = None,
        on_use: Callable[[], object] = lambda: None,
    ) -> None:
        self._answers = answers
        self._trial = trial
        self._sides = Sides(trial)
        self._values = TrialValues(trial, self._sides) if trial else None
        self._places: dict[tuple[str, int], _Place] = {}
        self._callbacks = _Callback(self._on_read), _Size(self._on_size)
        self._library: ctypes.CDLL | None = None
        self.decisions = Decisions(self._sides, {} if decided is None else decided, on_use)

    def listen(self) -> None:
        """Register this object with the stub, so that the stub calls it for each read."""
        _LISTENING.append(self)
        on_read, on_size = self._callbacks
        ctypes.CDLL(None).pretend_on_read(on_read)
        self._library = ctypes.CDLL(os.environ[LIBRARY_VARIABLE])
        self._library.harness_follow_values(on_size)
        followed_functions.install(sys.modules["torch"], self)
        follow_in_python(sys.modules["torch"])

    def compared(
        self, place: str, otherwise: bool, *, opposite: bool = False, chooses: bool = False
    ) -> bool:
        """Return the result of a comparison with an unknown number."""
        return self.decisions.truth(place, otherwise, opposite=opposite, chooses=chooses)

    def picked(self, place: str) -> None:
        """Record that code chooses between an unknown and a known number, e.g. with ``max``."""
        self.decisions.picked.add(place)

    def used(self, place: str) -> None:
        """Record the use of an unknown number, unless the code only prints or logs it."""
        if not is_said():
            self.decisions.use(place)

    def made(self, number: float) -> None:
        """Tell the stub an unknown number, so that writing it to a host tensor counts as a use."""
        if self._library is not None and (number or not self._trial):
            self._library.harness_unknown_number(ctypes.c_double(number))

    def look_at_the_host(self) -> None:
        """Record a use if an unknown number was written to a host tensor."""
        if self._library is not None and self._library.harness_host_took_unknown():
            read = [
                place.name
                for place in self._places.values()
                if place.counts["known"] < place.counts["count"]
            ]
            place = read[0] if read else NO_PYTHON
            self.decisions.use(
                place, "" if self._trial else place
            )  # any 0 was taken for one at first

    def end_at_a_read(self) -> None:
        """Stop tracking values; from now on, end this process if it reads a GPU value."""
        ctypes.CDLL(None).pretend_on_read(_END)
        if self._library is not None:
            self._library.harness_follow_values(None)

    def count_loads(self, owner: Any, name: str) -> None:
        """Wrap a loading function, so that each call counts all saved values as used."""

        @instead(owner, name)
        def load(real: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
            self._on_load()
            return real(*arguments, **named)

    def _on_load(self) -> None:
        for place in self._places.values():
            if place.saved:
                self._use(place, place.saved)
            place.saved = 0

    def _use(
        self, place: _Place, count: int = 1, line: str = "", *, is_number: bool = False
    ) -> None:
        place.counts["integers"] += count
        self.decisions.use(place.name, line, is_number=is_number)

    def _on_read(
        self, destination: int, size: int, known: int, type_: int, operator: bytes | None
    ) -> int:
        """Replace unknown values in a copy; return 1 if the user's answer was written, else 0."""
        place = self._place(operator)
        place.counts.update(count=1, bytes=size)
        value, answered = None, False
        if place.answer is not None and not place.only_sizes and (place.always or not known):
            place.answered = answered = True
            value = encoded([as_value(place.answer)], size, type_)
        elif known:
            place.counts["known"] += 1
        elif operator != HARMLESS:
            value = self._unknown(place, size, type_, sys._getframe().f_back)
        if value is not None:
            ctypes.memmove(destination, value, len(value))
        return int(answered)

    def _unknown(
        self, place: _Place, size: int, type_: int, frame: FrameType | None
    ) -> bytes | None:
        """Return substitute bytes for a read of unknown values; None means zeros."""
        if type_ not in TYPES:
            return None
        files, is_fraction = _files(frame), TYPES[type_] in _FRACTIONS
        if any(file.endswith(_PRINTING) for file in files):
            return None
        if is_fraction and self._library is not None:
            self._library.harness_fraction_is_unknown()
        if any(file.endswith(_SAVING) for file in files):  # it decides nothing until it is loaded
            place.saved += 1
            if size > _MOST_SAVED:
                return None
        elif self._is_gradient(files, size, type_):
            return None
        elif is_fraction and followed_functions.READING.active:
            followed_functions.READING.place = place.name
        elif type_ == _BOOL and size == 1:
            place.counts["integers"] += 1
            return bytes([self.decisions.truth(place.name, False)])
        else:
            is_number = size > 1  # a byte is a flag, and no size
            line = _sender(frame) if is_number else place.name
            self._use(place, line=line, is_number=is_number)
            if followed_functions.READING.active:
                followed_functions.READING.place = place.name
        if self._values is None:
            return None
        return self._values.take(place.name, min(size, _MOST_VARIED), type_)

    @staticmethod
    def _is_gradient(files: list[str], size: int, type_: int) -> bool:
        """Return whether autograd or ``save_on_cpu`` copies several floats to the host."""
        in_autograd = not files or any(file.endswith(_OFFLOADING) for file in files[:3])
        return in_autograd and TYPES[type_] in _FRACTIONS and size > _ONE_BYTES

    def _on_size(self, operator: bytes, most: int) -> int:
        """Return 1 plus the size assumed for an operator's result; 0 if no size can be assumed."""
        if any(file.endswith(_PRINTING) for file in _files(sys._getframe().f_back)):
            return most + 1
        place = self._place(operator)
        if operator == EQUAL:
            place.counts.update(count=1, integers=1)
            return 1 + self.decisions.truth(place.name, False)
        place.sizes.add(operator.decode())
        size = None if place.answer is None else as_size(place.answer, most)
        place.counts.update(count=1, open_sizes=int(size is None and most < 0))
        place.answered |= size is not None
        if size is None:
            self.decisions.use(place.name)
        return 1 + (size if size is not None else self._sides.kept(place.name, most))

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
                lines=tuple(sorted(self.decisions.lines.get(one.name, ()))),
                decides=one.name in self.decisions.numbers,
                picked=one.name in self.decisions.picked,
                **{name: one.counts[name] for name in _COUNTED},
            )
            for one in self._places.values()
        ]
        return tuple(sorted(reads, key=lambda read: (-read.count, read.place)))
