"""Makes up values for a run, in place of GPU values that the dry run does not know.

A script reads plain numbers. They are realistic, so that ``math.exp(loss)`` and an index work, and
they differ between runs: a number is below typical thresholds in one run and above them in another
run. Numbers in one tensor differ, as equal numbers would hide the effect of ``len(set(x))``.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

TYPES: Final = dict(zip((*range(8), 11, 15, 27, 28, 29), "Bbhiqefd?fHIQ", strict=True))
"""``struct`` format of each PyTorch type, by the type's number in ``c10::ScalarType``."""
FRACTIONS: Final = "efd"
"""Floating-point formats of ``TYPES``."""
_BFLOAT16: Final = 15
_INTEGERS: Final = {1: "b", 2: "h", 4: "i", 8: "q"}

LIBRARY_VARIABLE = "HARNESS_DRY_RUN_VALUES"
"""Environment variable that contains the path of the library that tracks values (``build.py``)."""
MANY: Final = 500
"""Number of reads in one line after which a run also returns the other values, because a loop may
wait for them."""
_SOME: Final = 8
"""Number of reads in one line after which every other large number is a share, because a script
may go on with a good accuracy and end with a perfect one."""
_MOST_FLIPPED: Final = 16
_PERIOD: Final = 509
"""Number of elements after which the values of a tensor repeat."""

_FEW: Final = 0, 1, 2, 3, 1, 0, 2, 1
_TWO_CLASSES: Final = 1, 0, 1, 1
_TEN_CLASSES: Final = 9, 4, 7, 8, 6, 0, 1, 3, 2, 5
_LARGE: Final = {"large": 2003, "larger": 9001}


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The values that a run takes for those that nobody knows.

    Attributes:
        numbers: ``small`` numbers fall from one read to the next, as losses do. The others rise.
        truths: truths of the lines with an even and an odd number, in the order of their first
            question. A mask keeps all elements if it is true, and no element if it is false.
        flipped: lines whose truth is the opposite one, because the script ended with an error.
        careful: whether integers are classes and fractions are below 1, after another error.
    """

    numbers: Literal["small", "large", "larger"] = "small"
    truths: tuple[bool, bool] = (True, True)
    flipped: frozenset[str] = frozenset()
    careful: bool = False

    def after_error(self, line: str | None) -> "Trial | None":
        """Return the trial to run after an error; ``line`` asked for a truth shortly before."""
        if line is not None and line not in self.flipped and len(self.flipped) < _MOST_FLIPPED:
            return replace(self, flipped=self.flipped | {line})
        return None if self.careful else replace(self, careful=True, flipped=self.flipped - {line})


FIRST: Final = Trial()
SECOND: Final = Trial(numbers="large", truths=(False, False))
MIXED: Final = Trial(truths=(True, False)), Trial(truths=(False, True))
"""Two further runs, done if several lines ask for a truth and the peaks differ."""


class TrialValues:
    """Makes up the values of one run, for each line of code that reads values."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._read: dict[str, int] = {}
        self._asked: dict[str, int] = {}

    def truth(self, line: str) -> bool:
        """Return the next truth for a line."""
        number = list(self._asked).index(line) if line in self._asked else len(self._asked)
        count = self._asked[line] = self._asked.get(line, 0) + 1
        truth = self._trial.truths[number % 2] ^ (line in self._trial.flipped)
        return truth ^ (count > MANY and bool(count % 2))

    def take(self, place: str, size: int, type_: int, known: bytes | None = None) -> bytes:
        """Return the next numbers for a place in the code, as ``size`` bytes.

        Args:
            place: the place.
            size: bytes that are read.
            type_: PyTorch's number of the type.
            known: integers of the same type and size that were read elsewhere. Large numbers are
                these in every second stretch of reads, as the predictions of a good network are the
                labels. Stretches double in length, so that a later stretch holds a
                whole validation of several batches.

        Returns:
            The bytes of the numbers.
        """
        number = self._read.setdefault(place, 0)
        self._read[place] += 1
        if known is not None and self._trial.numbers != "small" and number.bit_length() % 2:
            return known
        later, kind = list(self._read).index(place), TYPES[type_]
        is_small = (self._trial.numbers == "small") ^ (number > MANY and bool(number % 2))
        count = min(size // struct.calcsize(f"<{kind}") or 1, _PERIOD)
        if kind in FRACTIONS:
            is_share = self._trial.careful or (count == 1 and number % 2 and _SOME < number < MANY)
            make = _small_fraction if is_small else self._share if is_share else self._fraction
            values: list[float] = [make(number + 7 * later + at) for at in range(count)]
        else:
            values = [self._integer(number + at, later, is_small) for at in range(count)]
        return encoded(values, size, type_)

    def _fraction(self, at: int) -> float:
        """Return a large number whose exponential is finite."""
        return (600.0 if self._trial.numbers == "larger" else 300.0) + min(at, 8 * _PERIOD) / 50

    def _share(self, at: int) -> float:
        """Return a number a little below one, such as a good accuracy."""
        far = 0.02 if self._trial.numbers == "larger" else 0.05
        return 0.99 - far * 0.98**at

    def _integer(self, at: int, later: int, is_small: bool) -> int:
        if is_small:
            few = _TWO_CLASSES if self._trial.careful else _FEW
            return few[at % len(few)]
        if self._trial.careful:
            return _TEN_CLASSES[(at + (self._trial.numbers == "larger")) % len(_TEN_CLASSES)]
        return _LARGE.get(self._trial.numbers, 2003) + at + 2 * later


def _small_fraction(at: int) -> float:
    return float(0.02 * 0.9 ** min(at, MANY))


def encoded(values: Sequence[float], size: int, type_: int) -> bytes:
    """Convert values to ``size`` bytes of a PyTorch type; repeat the values to fill ``size``."""
    kind = TYPES.get(type_) or _INTEGERS.get(size, "B")
    width = 2 if type_ == _BFLOAT16 else struct.calcsize(f"<{kind}")
    few = values[: size // width]
    if kind not in f"{FRACTIONS}?":
        most = (1 << 8 * width - kind.islower()) - 1
        few = [min(int(value), most) for value in few]
    one = b"".join(struct.pack(f"<{kind}", value)[-width:] for value in few)
    return (one * (size // max(len(one), 1) + 1))[:size]
