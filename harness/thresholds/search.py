"""Finds the largest value that fits, even if the results of probes are noisy.

The search brackets the threshold around a guess, bisects, and repeats the last probes on both
sides. Tests can supply artificial probes. The guess may be wrong by any factor, and it is possible
that no value fits.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from harness.schema.threshold import BandValue

CONFIRMATIONS = 3
"""Number of equal results that confirm a value on each side of the threshold."""
MOST_PROBES = 80
"""Maximum number of probes in a search."""
_CLOSE = 0.0051
"""Size of the second step away from a wrong guess, as a fraction of the guess."""
_AROUND = (0, 1, -1, 3, -3)
"""Offsets from an estimate, in the order in which the search tries them."""
_TRUSTED = 3
"""Maximum number of different estimates that a search uses; estimates may be wrong."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The result of one probe."""

    fits: bool
    estimate: int | None = None
    """Largest value that fits, as estimated from this probe; None if there is no estimate."""


Probe = Callable[[int], Reading]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The largest value that fits, and the smallest value that does not fit."""

    largest_fit: int | None
    """Largest value that fitted every time; None if the smallest allowed value did not fit."""
    smallest_fail: int | None
    """Smallest value that always failed; None if every allowed value fitted."""
    band: tuple[BandValue, ...] = ()
    """Probed values between ``largest_fit`` and ``smallest_fail``, smallest first."""
    confirmed: bool = True
    """False if all probes were used before ``largest_fit`` and ``smallest_fail`` were confirmed."""


def search(
    probe: Probe,
    guess: int,
    *,
    least: int,
    most: int,
    confirmations: int = CONFIRMATIONS,
    close: int | None = None,
) -> Answer:
    """Search for the largest value from ``least`` to ``most`` that fits, starting at ``guess``.

    Apart from noise, every value up to the threshold must fit and every larger value must fail. The
    first step away from a wrong guess is ``close`` (default: 1), and the second step is 0.5% of the
    guess.
    """
    tally = _Tally(probe, confirmations)
    start = min(max(guess, least), most)
    wide = math.ceil(_CLOSE * start) + 1
    distances = itertools.chain((0, close or 1), (wide * 4**n for n in itertools.count()))
    fits, fails = least - 1, most + 1
    while fails - fits > 1 and not tally.spent:
        value = tally.hint(fits, fails)
        if value is None and (fits < least or fails > most):
            away = next(distances)
            value = start + (away if fails > most else -away)
            value = min(max(value, fits + 1), fails - 1)
        elif value is None:
            value = (fits + fails) // 2
        if tally.fits(value):
            fits = value
        else:
            fails = value
    low = tally.confirmed_from(fits, least, fits=True)
    high = tally.confirmed_from(fails, most, fits=False)
    return Answer(
        largest_fit=low if low >= least else None,
        smallest_fail=high if high <= most else None,
        band=tuple(
            BandValue(value=value, fits=sum(seen), trials=len(seen))
            for value, seen in sorted(tally.seen.items())
            if low < value < high
        ),
        confirmed=not tally.spent,
    )


class _Tally:
    """Probes values and stores the results."""

    def __init__(self, probe: Probe, confirmations: int) -> None:
        self._probe = probe
        self._confirmations = confirmations
        self._hints: list[int] = []
        self._estimates: set[int] = set()
        self.seen: defaultdict[int, list[bool]] = defaultdict(list)

    @property
    def spent(self) -> bool:
        """True if the search has used all its probes."""
        return sum(map(len, self.seen.values())) >= MOST_PROBES

    def fits(self, value: int) -> bool:
        """Probe ``value`` once; return whether the value fits."""
        reading = self._probe(value)
        self.seen[value].append(reading.fits)
        estimate = reading.estimate
        if estimate is not None and len(self._estimates) < _TRUSTED:
            if estimate not in self._estimates:
                self._hints = [estimate + offset for offset in _AROUND]
            self._estimates.add(estimate)
        return reading.fits

    def hint(self, low: int, high: int) -> int | None:
        """Return the next value between ``low`` and ``high`` that is near an estimate, or None."""
        return next((value for value in self._hints if low < value < high), None)

    def confirmed_from(self, value: int, end: int, *, fits: bool) -> int:
        """Return the first confirmed value on the way from ``value`` to ``end``."""
        away, step = (-1 if fits else 1), 1
        while value != end + away and not self._is_confirmed(value, fits) and not self.spent:
            value += away * (min(step, abs(end - value)) or 1)
            step *= 2
        return value

    def _is_confirmed(self, value: int, fits: bool) -> bool:
        """Repeat the probe of ``value``; return whether every result equals ``fits``."""
        seen = self.seen[value]
        while len(seen) < self._confirmations and all(one == fits for one in seen):
            if self.spent:
                return False
            self.fits(value)
        return all(one == fits for one in seen)
