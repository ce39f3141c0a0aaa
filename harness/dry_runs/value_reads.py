"""Reads of GPU values: each is counted with the place that made it, known and unknown apart.

The stub (``stub/values``) calls back for each copy from the GPU to the host. The copy holds the
true values where they are known, the user's answer where there is one, and zeros otherwise. An
operator whose result's size is not known asks before it runs. A guard, ``if not ok: raise``, gets
the answer that raises nothing.

Operators between known values are computed by their CPU kernels when PyTorch reports them as it
does to its profiler, so no mode makes ``torch.compile`` run eagerly, and Autograd's threads and
compiled code are observed alike. Large floating-point tensors, random numbers of the GPU, and what
a replayed CUDA graph or a collective leaves behind are not followed.
"""

import ctypes
import linecache
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final

from harness.dry_runs.dry_run_report import Answer, ValueRead
from harness.dry_runs.dry_run_request import EVERYWHERE, answer_at, as_size, as_value
from harness.dry_runs.own_code import users_frame
from harness.dry_runs.trial_values import TYPES, TrialValues, encoded
from harness.prediction.library_answers import library_answer
from harness.prediction.value_flow import Stack, avoids_error, decides, prints, stack_of

LIBRARY_VARIABLE = "HARNESS_DRY_RUN_VALUES"
"""Environment variable that holds the path of the library that ``build.py`` compiled."""

_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_char_p
)
_Size = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_char_p, ctypes.c_int64)
_END: Final = _Callback(lambda *_: os._exit(1))
_BOOL: Final = 11
HARMLESS: Final = b"harmless"
"""In place of an operator: it decides nothing by what it reads (``stub/cuda/memory.c``)."""
MOST_ASKED: Final = 5_000
"""Unknown truths that one line reads before every second one is true: some loop waits for one."""
ROUNDS: Final = 8
"""Rounds of ``VonMises`` and ``trunc_normal_``, which accept two of three values or more."""
_SAMPLERS: Final = {
    "_no_grad_trunc_normal_": [*[True] * ROUNDS, False],  # are any rejected?
    "_rejection_sample": [*[False, True] * ROUNDS, True],  # are all done? and are any accepted?
}
_COUNTED: Final = ("count", "bytes", "known", "open_sizes", "integers", "guards")
_LISTENING: Final[list[object]] = []
"""PyTorch calls back as long as the process lives."""
NO_PYTHON = "a thread without Python"
_FRACTIONS: Final = "efd"
"""Types of ``TYPES``."""
_ONE_BYTES: Final = 8
"""The most that one value takes."""


@dataclass(kw_only=True)
class _Place:
    """Counts of one line; see ``ValueRead``."""

    file: str
    line: int
    answer: Answer | None
    always: bool
    """The user answered this very line, so the answer holds for known values too."""
    source: str | None
    only_sizes: bool
    """``all`` everywhere is an upper bound of sizes; the end of a loop is none."""
    operator: str
    counts: Counter[str] = field(default_factory=Counter)
    answered: bool = False
    saved: int = 0
    sampled: int = 0
    bounded: bool = False
    inside: str | None = None
    sizes: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        """Return the line, or the operator where no Python called it."""
        if self.file:
            return f"{self.file}:{self.line}"
        return f"{self.operator} in {NO_PYTHON}" if self.operator else NO_PYTHON


def _accepts(place: _Place, frame: FrameType | None) -> bool | None:
    """Return an answer by which PyTorch's samplers that reject accept all after some rounds.

    None: another function asks.
    """
    answers = _SAMPLERS.get(frame.f_code.co_name) if frame is not None else None
    if answers is None:
        return None
    place.sampled += 1
    return answers[place.sampled % len(answers) - 1]


def _of_source(
    question: Callable[[Stack], bool | None], stack: Stack, otherwise: bool | None
) -> Any:
    """Return the answer of the source; ``otherwise`` for source that cannot be understood.

    ctypes drops an error that is raised in a callback, and the read would look harmless.
    """
    try:
        return question(stack)
    except Exception:
        return otherwise


class ValueReads:
    """Counts reads by place; ``trial`` is the sequence that unknown values get, 0: zeros."""

    def __init__(
        self, answers: Mapping[str, Answer], *, trial: int = 0, zeros_at: tuple[str, ...] = ()
    ) -> None:
        self._answers = answers
        self._values = TrialValues(trial) if trial else None
        self._zeros_at = zeros_at
        self._places: dict[tuple[str, int], _Place] = {}
        self._callbacks = _Callback(self._on_read), _Size(self._on_size)
        self._library: ctypes.CDLL | None = None

    def listen(self) -> None:
        """Have the stub call back; it is loaded in every process of a dry run."""
        _LISTENING.append(self)
        on_read, on_size = self._callbacks
        ctypes.CDLL(None).pretend_on_read(on_read)
        self._library = ctypes.CDLL(os.environ[LIBRARY_VARIABLE])
        self._library.harness_follow_values(on_size)

    def end_at_a_read(self) -> None:
        """Follow no values from now on; end this process where it reads one."""
        ctypes.CDLL(None).pretend_on_read(_END)
        if self._library is not None:
            self._library.harness_follow_values(None)

    def on_load(self) -> None:
        """Count what was saved before as read by the script."""
        for place in self._places.values():
            place.counts["integers"] += place.saved
            place.saved = 0

    def _on_read(
        self, destination: int, size: int, known: int, type_: int, operator: bytes | None
    ) -> int:
        """Change what was read; return 1 if parts that are known must not come back."""
        place = self._place(operator)
        place.counts.update(count=1, bytes=size)
        value, answered = None, False
        if place.answer is not None and not place.only_sizes and (place.always or not known):
            place.answered = answered = True
            value = encoded([as_value(place.answer)], size, type_)
        elif known:
            place.counts["known"] += 1
            if type_ == _BOOL and size == 1:
                is_true = ctypes.string_at(destination, 1) != b"\0"
                place.bounded = place.counts["integers"] > 0 and is_true
        elif operator == HARMLESS:
            place.counts["guards"] += 1
        else:
            value = self._unknown(place, size, type_, sys._getframe().f_back)
        if value is not None:
            ctypes.memmove(destination, value, len(value))
        return int(answered)

    def _unknown(
        self, place: _Place, size: int, type_: int, frame: FrameType | None
    ) -> bytes | None:
        """Return what an unknown read gets instead of zeros, if anything."""
        if type_ not in TYPES:
            return None
        stack, taken = stack_of(frame), None
        if type_ == _BOOL and size == 1:
            taken = _accepts(place, frame)
            taken = _of_source(avoids_error, stack, None) if taken is None else taken
        if taken is not None:
            place.counts["guards"] += 1
            return bytes([taken])
        saved = any(code.co_filename.endswith("/torch/serialization.py") for code, _ in stack)
        if saved:  # it decides nothing until it is loaded
            place.saved += 1
        elif self._is_gradient(stack, size, type_) or not _of_source(
            partial(decides, fraction=TYPES[type_] in _FRACTIONS), stack, True
        ):
            if self._library is not None:
                self._library.harness_fraction_is_unknown()
            return None
        place.counts["integers"] += not saved
        place.bounded = False
        reader = stack[0][0].co_filename if stack else place.file
        if reader != place.file and place.inside is None:
            place.inside = "/".join(Path(reader).parts[-3:])
        if type_ == _BOOL and size == 1 and place.counts["integers"] > MOST_ASKED:
            return bytes([place.counts["integers"] % 2])
        if self._values is None or place.name in self._zeros_at:
            return None
        return self._values.take(place.name, size, type_)

    @staticmethod
    def _is_gradient(stack: Stack, size: int, type_: int) -> bool:
        """Return whether autograd, or its ``save_on_cpu``, sends several fractions to the host."""
        in_autograd = not stack or stack[0][0].co_filename.endswith("/torch/autograd/graph.py")
        return in_autograd and TYPES[type_] in _FRACTIONS and size > _ONE_BYTES

    def _on_size(self, operator: bytes, most: int) -> int:
        """Return the size of an operator's result plus 1; 0 if nothing is known of it.

        0 is also what ctypes returns for an error that is raised in here.
        """
        frame = sys._getframe().f_back
        if frame is not None and prints(frame.f_code):
            return most + 1
        place = self._place(operator)
        place.sizes.add(operator.decode())
        size = None if place.answer is None else as_size(place.answer, most)
        place.counts.update(count=1, open_sizes=int(size is None))
        place.answered |= size is not None
        return 1 + (most if size is None else size)  # as all would: later places are asked too

    def _place(self, operator: bytes | None) -> _Place:
        """Return the place that reads."""
        frame = users_frame()
        file, line = ("", 0) if frame is None else (frame.f_code.co_filename, frame.f_lineno)
        place = self._places.get((file, line))
        if place is None:
            answer, source = answer_at(self._answers, file, line), None
            always = answer is not None
            if frame is not None and answer is None:
                answer, source = library_answer(file, frame.f_code.co_name)
            everywhere = self._answers.get(EVERYWHERE) if answer is None else None
            place = self._places[file, line] = _Place(
                file=file,
                line=line,
                answer=everywhere if answer is None else answer,
                always=always,
                source=source,
                only_sizes=isinstance(everywhere, str),
                operator=(operator or b"").decode(),
            )
        return place

    def places(self) -> tuple[ValueRead, ...]:
        """Return the places, those with most reads first."""
        reads = [
            ValueRead(
                place=one.name,
                text=linecache.getline(one.file, one.line).strip() if one.file else "",
                answer=one.answer if one.answered else None,
                source=one.source if one.answered else None,
                sizes=tuple(sorted(one.sizes)),
                inside=one.inside,
                bounded=one.bounded,
                **{name: one.counts[name] for name in _COUNTED},
            )
            for one in self._places.values()
        ]
        return tuple(sorted(reads, key=lambda read: (-read.count, read.place)))
