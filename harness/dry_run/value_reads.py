"""Reads of GPU values: every one gets zeros, so each is counted, with the place that made it.

The stub calls back for each copy from the GPU to the host. The copy holds zeros by then; where
the user gave an answer for the place, the answer is written in their stead.
"""

import ctypes
import linecache
import struct
import sys
import threading
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Final

from harness.dry_run.dry_run_report import ValueRead

EVERYWHERE: Final = "*"

_Callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_size_t)

_INTEGERS = {1: "<b", 2: "<h", 4: "<i", 8: "<q"}
_OTHERS = {"float64": "<d", "float32": "<f", "float16": "<e", "bool": "<?"}
_SCALARS = ("item", "__bool__", "__float__", "__int__", "__index__", "tolist")
"""Methods of a tensor that read one value and know its type."""


class ValueReads:
    """Counts reads by place, and answers some of them.

    Args:
        answers: ``FILE:LINE`` to the value that is read there; ``*`` for everywhere else.
        own: says whether a file belongs to PyTorch, Python or the harness.

    """

    def __init__(self, answers: Mapping[str, float], own: Callable[[str], bool]) -> None:
        self._answers = answers
        self._own = own
        self._counts: dict[tuple[str, int], list[int]] = {}
        self._type = threading.local()
        self._callback = _Callback(self._on_read)

    def listen(self) -> None:
        """Have the stub call back; it is loaded in every process of a dry run."""
        ctypes.CDLL(None).pretend_on_read(self._callback)

    def remember_types(self, tensor_class: type) -> None:
        """Wrap the methods that read one value, so that an answer is written in its type."""
        if not self._answers:
            return
        for name in _SCALARS:
            setattr(tensor_class, name, self._typed(getattr(tensor_class, name)))

    def _typed(self, method: Callable[..., object]) -> Callable[..., object]:
        def typed(tensor: object, *arguments: object) -> object:
            self._type.name = str(getattr(tensor, "dtype", "")).removeprefix("torch.")
            try:
                return method(tensor, *arguments)
            finally:
                self._type.name = None

        return typed

    def _on_read(self, destination: int, size: int) -> None:
        place = self._place(sys._getframe(1))
        count = self._counts.setdefault(place, [0, 0])
        count[0] += 1
        count[1] += size
        answer = self._answer(place)
        if answer is not None and size <= 8:
            ctypes.memmove(destination, self._encoded(answer, size), size)

    def _place(self, frame: FrameType | None) -> tuple[str, int]:
        while frame is not None and self._own(frame.f_code.co_filename):
            frame = frame.f_back
        return ("", 0) if frame is None else (frame.f_code.co_filename, frame.f_lineno)

    def _answer(self, place: tuple[str, int]) -> float | None:
        for given, answer in self._answers.items():
            file, _, line = given.rpartition(":")
            if line == str(place[1]) and (place[0] == file or place[0].endswith("/" + file)):
                return answer
        return self._answers.get(EVERYWHERE)

    def _encoded(self, answer: float, size: int) -> bytes:
        """Return the answer as the bytes that the reader expects, an integer where unknown."""
        name = getattr(self._type, "name", None)
        if name == "bfloat16":
            return struct.pack("<f", answer)[2:]
        if name in _OTHERS and struct.calcsize(_OTHERS[name]) == size:
            return struct.pack(_OTHERS[name], answer)
        return struct.pack(_INTEGERS[size], int(answer)) if size in _INTEGERS else bytes(size)

    def found(self) -> tuple[ValueRead, ...]:
        """Return the places, those with most reads first."""
        reads = [
            ValueRead(
                place=f"{file}:{line}" if file else "a thread without Python",
                text=linecache.getline(file, line).strip() if file else "",
                count=count,
                bytes=size,
                answer=self._answer((file, line)),
            )
            for (file, line), (count, size) in self._counts.items()
        ]
        return tuple(sorted(reads, key=lambda read: (-read.count, read.place)))
