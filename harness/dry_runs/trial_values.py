"""Defines the values that replace unknown GPU values when a script runs again.

Numbers in one tensor differ, as equal numbers would hide the effect of ``len(set(x))``.
"""

import random
import struct
from collections.abc import Sequence
from typing import Final

TYPES: Final = dict(zip((*range(8), 11, 15, 27, 28, 29), "Bbhiqefd?fHIQ", strict=True))
"""``struct`` format of each PyTorch type, by the type's number in ``c10::ScalarType``."""
_FRACTIONS: Final = "efd"
_BFLOAT16: Final = 15
_INTEGERS: Final = {1: "b", 2: "h", 4: "i", 8: "q"}

LIBRARY_VARIABLE = "HARNESS_DRY_RUN_VALUES"
"""Environment variable that contains the path of the library that tracks values (``build.py``)."""
OTHERS: Final = 1, 2
"""The first two trials with values other than zero. In trial 1, every decision has the result True,
and small values come first. In trial 2, every decision has the result False, and large values come
first."""
_FEW: Final = {2: 0, 5: 0, 6: 1, 7: 1, 8: 1, 9: 1}
"""For each trial whose decisions have the result False, the number of elements that a mask keeps.
In all other trials, a mask keeps all elements."""
SMALLER: Final = {1: 3, 3: 4, 2: 5, 5: 6, 6: 7, 7: 8, 8: 9}
"""The trial to run after a trial that ended with an error. The integers of trials 7, 8 and 9 are
valid indices for an alphabet, for ten classes and for two classes. The first integers of trials 3
and 8, and of trials 4 and 9, differ at each position, so that exchanging the trials' numbers has an
effect. In trials 5 to 9, the first decision of each line is True, so that a script saves its first
best weights."""
CROSSED: Final = 10
"""Trial ``1 * CROSSED + 2`` has the decisions and masks of trial 1 and the numbers of trial 2."""
FURTHER: Final = 5
"""Trial with a third set of numbers, to find out whether decisions or numbers change a peak."""
MIXED: Final = 100
"""In trials from 100 on, each line of code belongs to one of three groups. In trial 502, the digit
5 (1 + 4) selects the first and the third group: only their decisions are True, and their masks keep
all elements. The digit 2 selects the numbers of trial 2."""
GROUPS: Final = 3


class Sides:
    """Chooses for each line whether its decisions are true and its masks keep all elements."""

    def __init__(self, trial: int) -> None:
        self._true, numbers = divmod(trial, MIXED)
        self._like = numbers // CROSSED or numbers
        self._lines: dict[str, int] = {}

    def first(self) -> bool | None:
        """Return True if each line's first decision is always true in this trial, else None."""
        return True if self._like > max(OTHERS) and self._like in _FEW else None

    def of(self, line: str) -> bool | None:
        """Return the result of the decisions in a line; None in the first run, which uses zeros."""
        if self._true:
            group = self._lines.setdefault(line, len(self._lines)) % GROUPS
            return bool(self._true >> group & 1)
        return self._like not in _FEW if self._like else None

    def kept(self, line: str, most: int) -> int:
        """Return how many elements a mask in this line keeps; in the first run, it keeps all."""
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
"""Floating-point numbers of each trial. They rise if the trial's decisions are True, else they
fall. The largest value is the last value of a rising list or the first value of a falling list.
Typical thresholds for losses and accuracies lie between the numbers of two trials."""
_MORE: Final = 509
"""Number of random integers that follow the numbers in ``_INTEGER`` before the sequence repeats."""


class TrialValues:
    """Generates the values of one trial run, for each line of code that reads values."""

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
        """Return the next values for a place in the code, as ``size`` bytes."""
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
    """Convert values to ``size`` bytes of a PyTorch type; repeat the values to fill ``size``."""
    kind = TYPES.get(type_) or _INTEGERS.get(size, "B")
    width = 2 if type_ == _BFLOAT16 else struct.calcsize(f"<{kind}")
    few = values[: size // width]
    if kind not in f"{_FRACTIONS}?":
        most = (1 << 8 * width - 1) - 1
        few = [min(int(value), most) for value in few]
    one = b"".join(struct.pack(f"<{kind}", value)[-width:] for value in few)
    return (one * (size // max(len(one), 1) + 1))[:size]
