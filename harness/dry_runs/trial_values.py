"""Values that unknown reads get when a script runs again, to see if anything depends on them.

Each read gets numbers of its own, because equal values would hide the effect of ``len(set(x))``.
"""

import random
import struct
from collections.abc import Sequence
from typing import Final

TYPES: Final = dict(zip((*range(8), 11, 15, 27, 28, 29), "Bbhiqefd?fHIQ", strict=True))
"""Formats of ``struct`` by PyTorch's numbers of types (``c10::ScalarType``)."""
_FRACTIONS: Final = "efd"
_BFLOAT16: Final = 15
_INTEGERS: Final = {1: "b", 2: "h", 4: "i", 8: "q"}

LIBRARY_VARIABLE = "HARNESS_DRY_RUN_VALUES"
"""Environment variable that holds the path of the library that ``build.py`` compiled."""
OTHERS: Final = 1, 2
"""Two runs with other values. The first has small before large values and makes every decision
true; the second has large before small values and makes every decision false."""
_FEW: Final = {2: 0, 5: 0, 6: 1, 7: 1, 8: 1, 9: 1}
"""Number of elements that a mask keeps in each run with false decisions; in runs with true
decisions a mask keeps all elements."""
SMALLER: Final = {1: 3, 3: 4, 2: 5, 5: 6, 6: 7, 7: 8, 8: 9}
"""Trial to run if a trial ends with an error. The last three have indices of an alphabet, of ten
classes and of two classes. Trials 3 and 4 differ at each place, so exchanging them has an effect.
From 5 on the first decision of each line is true, so that a script saves its first best weights."""
CROSSED: Final = 10
"""Trial 12 has the decisions and masks of trial 1, and the numbers of trial 2."""
FURTHER: Final = 5
"""Trial that shows if a decision or a number moves a peak, because no other run has its numbers."""
MIXED: Final = 100
"""Trial 502 has the numbers of trial 2 and mixed decisions. The digit 5 is 1 + 4, so the first and
the third group of lines decide true and keep all. Lines join the three groups in turn."""
GROUPS: Final = 3


class Sides:
    """Side that each line takes in one trial: it decides true and keeps all, or the opposite."""

    def __init__(self, trial: int) -> None:
        self._true, numbers = divmod(trial, MIXED)
        self._like = numbers // CROSSED or numbers
        self._lines: dict[str, int] = {}

    def first(self) -> bool | None:
        """Return True if the first decision of each line is true; None if all are alike."""
        return True if self._like > max(OTHERS) and self._like in _FEW else None

    def of(self, line: str) -> bool | None:
        """Return whether a line decides true; None in the first run, where the number decides."""
        if self._true:
            group = self._lines.setdefault(line, len(self._lines)) % GROUPS
            return bool(self._true >> group & 1)
        return self._like not in _FEW if self._like else None

    def kept(self, line: str, most: int) -> int:
        """Return how many elements a mask keeps in a line; in the first run, all elements."""
        few = most if self.of(line) in (True, None) else _FEW.get(self._like, 0)
        return most if few > most >= 0 else few


_INTEGER: Final = {
    1: (3, 97, 41, 2, 64, 10_007, 1, 130),
    2: (20_011, 641, 5, 2_000, 33, 300, 12, 1_025),
    3: (1, 2, 0, 3, 1, 4, 2, 5),
    4: (1, 0, 1, 1),
    5: (641, 131, 300, 97, 1_025, 33),
    7: (60, 31, 47, 17, 52, 9),
    8: (9, 4, 7, 8, 6, 0, 1, 3, 2, 5),
    9: (0, 1, 0, 0),
}
_RISING: Final = {1: (0.02, 0.98, 3.5, 12.5, 980.0), 4: (0.02, 0.1, 0.2)}
_FALLING: Final = {2: (60_000.0, 0.3, 0.01, 5e-5, -777.7), 5: (0.9, 0.3, 5e-5, -0.4)}
"""Fractions by trial: rising if decisions are true, else falling. In a list the largest element
comes last or first, so that ``h.index(max(h))`` gives both ends. Limits of losses and shares lie
between the numbers that two runs read at the same time."""
_MORE: Final = 509
"""Count of numbers before they repeat."""


class TrialValues:
    """The values of one trial, in the order in which each place reads them."""

    def __init__(self, trial: int, sides: Sides) -> None:
        self._numbers = numbers = trial % CROSSED
        self._sides = sides
        self._read: dict[str, int] = {}
        chosen = random.Random(numbers)
        few = _INTEGER.get(numbers, _INTEGER[5])
        most = 1 if numbers in (4, 8, 9) else 4
        more = [chosen.choice(few) + chosen.randrange(most) for _ in range(_MORE)]
        self._integers = [*few, *more]
        self._rises = numbers not in _FEW
        of_trials, alike = (_RISING, 1) if self._rises else (_FALLING, 5)
        fractions = of_trials.get(numbers, of_trials[alike])
        beyond = (fractions[-1] * (1 + at / _MORE) for at in range(1, _MORE))
        self._fractions = [*fractions, *beyond]

    def take(self, place: str, size: int, type_: int) -> bytes:
        """Return the bytes of the next values of a place; the first values of all places differ."""
        number = self._read.setdefault(place, 0)
        self._read[place] += 1
        kind, later = TYPES[type_], list(self._read).index(place)
        if kind == "?":
            kept = self._sides.kept(place, _MORE)
            return encoded([at < kept for at in range(_MORE)], size, type_)
        if kind in _FRACTIONS:
            by = 1 + later / (later + 8)
            values = [one * by if self._rises else one / by for one in self._fractions]
        else:
            values = [one + 2 * later * (self._numbers in OTHERS) for one in self._integers]
        first = number % len(values)
        return encoded([*values[first:], *values[:first]], size, type_)


def encoded(values: Sequence[float], size: int, type_: int) -> bytes:
    """Return values as the bytes that a reader expects, repeated if they are too few."""
    kind = TYPES.get(type_) or _INTEGERS.get(size, "B")
    width = 2 if type_ == _BFLOAT16 else struct.calcsize(f"<{kind}")
    few = values[: size // width]
    if kind not in f"{_FRACTIONS}?":
        most = (1 << 8 * width - 1) - 1
        few = [min(int(value), most) for value in few]
    one = b"".join(struct.pack(f"<{kind}", value)[-width:] for value in few)
    return (one * (size // max(len(one), 1) + 1))[:size]
