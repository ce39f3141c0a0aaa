"""Texts of unknown (not computed) numbers; parsing or comparing a text, or its length, is a use.

If C code joins the text to other text, the result is a plain string. The number is still reported
as used if ``float`` parses the number's text. If the process reads a file that it has written, all
numbers that were converted to text before are reported as used, because the file may contain them.
"""

import contextlib
import os
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, SupportsIndex

from harness.prediction.number_uses import used

_USES = "len eq ne lt le gt ge contains iter"
_METHODS = "split rsplit splitlines partition rpartition startswith endswith index rindex"
_METHODS += " find rfind count encode isdigit isdecimal isnumeric"
_OTHER_TEXTS = "__getitem__ strip lstrip rstrip removeprefix removesuffix replace upper lower"
_OTHER_TEXTS += " ljust rjust center zfill"
_OF_CODE = "/torch/_inductor/", "/triton/"
"""Parts of the paths of compiler code; a compiler reads files that it has written."""
_MOST_TEXTS, _MOST_CODE = 1000, 64
TEXTS: Final[dict[str, str]] = {}
"""Dict from a number's text to the code location of the read; finds numbers in longer texts."""
_made: Final[set[str]] = set()
"""Code locations of numbers converted to text since the process last read a file it wrote."""


class Text(str):
    """The text of an unknown number."""

    place: str
    __class__ = property(lambda _: str)

    def __add__(self, other: str, /) -> str:
        return text_of(str.__add__(self, other), self.place)

    def __radd__(self, other: str) -> str:
        return text_of(str.__add__(other, self), self.place)

    def __hash__(self) -> int:
        return str.__hash__(self)

    def __deepcopy__(self, _: object) -> "Text":
        return self

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> tuple[Any, ...]:
        used(self.place)
        return str, (str.__str__(self),)


def text_of(words: str, place: str) -> Text:
    """Return a ``Text`` of a number that was read at ``place``."""
    _made.add(place)
    number = str.strip(words, " %")
    if not number.isdigit():  # 0 is anybody's number
        if len(TEXTS) > _MOST_TEXTS:
            TEXTS.clear()
        TEXTS[number] = TEXTS[str.__add__(words, "")] = place
    text = Text(words)
    text.place = place
    return text


def _use(real: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Text, *others: Any, **named: Any) -> Any:
        used(self.place)
        return real(self, *others, **named)

    return method


def _text(real: Callable[..., str]) -> Callable[..., Text]:
    return lambda self, *others, **named: text_of(real(self, *others, **named), self.place)


for _name in (*(f"__{one}__" for one in _USES.split()), *_METHODS.split()):
    setattr(Text, _name, _use(getattr(str, _name)))
for _name in _OTHER_TEXTS.split():
    setattr(Text, _name, _text(getattr(str, _name)))
setattr(Text, "__float__", _use(lambda text: float(str.__str__(text))))  # noqa: B010
setattr(Text, "__int__", _use(lambda text: int(str.__str__(text))))  # noqa: B010


def follow_files() -> None:
    """Report numbers as used when this process reads a file that it has written."""
    written: set[str] = set()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "compile" and isinstance(arguments[0], bytes):  # eval(text)
            place = TEXTS.get(arguments[0][:_MOST_CODE].decode(errors="ignore"))
            if place is not None:
                used(place)
        if event != "open" or not isinstance(arguments[0], str | bytes):
            return
        with contextlib.suppress(OSError):  # the working directory may be gone
            name = os.path.abspath(os.fsdecode(arguments[0]))  # noqa: PTH100
            if arguments[2] & (os.O_WRONLY | os.O_RDWR):
                written.add(name)
            elif _made and name in written and not _reads_code(sys._getframe(1)):
                for place in tuple(_made):
                    used(place)
                    _made.discard(place)

    sys.addaudithook(hook)


def _reads_code(frame: FrameType | None) -> bool:
    while frame is not None:
        if any(part in frame.f_code.co_filename for part in _OF_CODE):
            return True
        frame = frame.f_back
    return False
