"""Values that unknown reads get when a script runs again, to see if anything depends on them.

Each read gets numbers of its own: one value for all would not show ``len(set(x))``.
"""

import random
import struct
from collections.abc import Sequence
from typing import Final

TYPES: Final = dict(zip((*range(8), 11, 15, 27, 28, 29), "Bbhiqefd?fHIQ", strict=True))
"""Formats of ``struct`` by PyTorch's numbers of types (``c10::ScalarType``)."""
_BFLOAT16: Final = 15
_INTEGERS: Final = {1: "b", 2: "h", 4: "i", 8: "q"}

LIBRARY_VARIABLE = "HARNESS_DRY_RUN_VALUES"
"""Environment variable that holds the path of the library that ``build.py`` compiled."""
OTHERS: Final = 1, 2
"""Runs with other values: small before large ones and every decision true; large ones before small
ones and every decision false."""
_KEPT: Final = {2: 0, 5: 0, 6: 1, 7: 1, 8: 1, 9: 1}
"""Elements that a mask keeps in some runs; in the others it keeps all."""
SMALLER: Final = {1: 3, 3: 4, 2: 5, 5: 6, 6: 7, 7: 8, 8: 9}
"""Values that are tried instead if a run ends with an error; the last three index an alphabet, ten
classes, two classes. Those of 3 and 4 differ at each place, or exchanging them shows nothing."""
CROSSED: Final = 10
"""Trial 12 has the decisions and masks of 1, and the numbers of 2."""


def kept(trial: int, most: int) -> int:
    """Return how many of some elements a mask keeps in a trial."""
    few = _KEPT.get(trial // CROSSED or trial)
    return most if few is None or (few > most >= 0) else few


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
_SMALL, _LARGE = (0.7, -3.1, 0.02, 12.5, 0.45, 980.0), (12_345.6, -777.7, 0.3, 5e-5, 60_000.0)
_FRACTION: Final = {2: _LARGE, 4: _LARGE}
_MORE: Final = 509
"""Numbers before they repeat."""


class TrialValues:
    """The values of one trial, in the order in which each place reads them."""

    def __init__(self, trial: int) -> None:
        self._numbers = numbers = trial % CROSSED
        self._read: dict[str, int] = {}
        chosen = random.Random(trial)
        few, fractions = _INTEGER.get(numbers, _INTEGER[5]), _FRACTION.get(numbers, _SMALL)
        most = 1 if numbers in (4, 8, 9) else 4
        more = [chosen.choice(few) + chosen.randrange(most) for _ in range(_MORE)]
        self._integers = [*few, *more]
        self._fractions = [*fractions, *(chosen.choice(fractions) for _ in range(_MORE))]
        self._truths = [place < kept(trial, _MORE) for place in range(_MORE)]

    def take(self, place: str, size: int, type_: int) -> bytes:
        """Return the bytes of the next values of a place; the first ones of all places differ."""
        number = self._read.setdefault(place, 0)
        self._read[place] += 1
        more = 2 * list(self._read).index(place) * (self._numbers in OTHERS)
        kind = TYPES[type_]
        of_kind = self._truths if kind == "?" else self._integers
        values: Sequence[float] = self._fractions if kind in "efd" else of_kind
        first = number % len(values) if kind != "?" else 0
        first_ones = [one + more * (kind not in "?efd") for one in values[first:]]
        return encoded([*first_ones, *values[:first]], size, type_)


def encoded(values: Sequence[float], size: int, type_: int) -> bytes:
    """Return values as the bytes that a reader expects, again from the first if they are few."""
    kind = TYPES.get(type_) or _INTEGERS.get(size, "B")
    width = 2 if type_ == _BFLOAT16 else struct.calcsize(f"<{kind}")
    few = values[: size // width]
    if kind not in "efd?":
        most = (1 << 8 * width - 1) - 1
        few = [min(int(value), most) for value in few]
    one = b"".join(struct.pack(f"<{kind}", value)[-width:] for value in few)
    return (one * (size // max(len(one), 1) + 1))[:size]
