"""Finds the largest value that fits, by brackets around a guess, bisection and confirmation.

The caller supplies the probe, so tests can use artificial probes that need no memory. The probe may
be noisy, the guess may be wrong by any factor, and an answer may not exist.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from harness.schema.threshold import BandValue

CONFIRMATIONS = 3
"""Number of times that each side of the answer must be observed."""
MOST_PROBES = 80
"""Number of probes after which a noisy search ends."""
_CLOSE = 0.0051
"""Largest error of a good guess, as a share; also the second step when a bracket widens."""
_AROUND = (0, 1, -1, 3, -3)
"""Distances from an estimate at which the search probes."""
_TRUSTED = 3
"""Number of different estimates that are tried before bisection, because estimates may be wrong."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The observation of one probe."""

    fits: bool
    estimate: int | None = None
    """Answer that is estimated from the need of this probe; None if the need is unknown."""


Probe = Callable[[int], Reading]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The largest value that fits, and the smallest value that does not fit."""

    largest_fit: int | None
    """Largest value that fitted every time; None if the least value did not fit."""
    smallest_fail: int | None
    """Smallest larger value that failed every time; None if the largest allowed value fitted."""
    band: tuple[BandValue, ...] = ()
    """Probed values between these two values, in order."""
    confirmed: bool = True
    """True if each side was observed the required number of times before the probes ran out. If
    False, the two values are only the state of the search at its end."""


def search(
    probe: Probe,
    guess: int,
    *,
    least: int,
    most: int,
    confirmations: int = CONFIRMATIONS,
    close: int | None = None,
) -> Answer:
    """Return the largest value from ``least`` to ``most`` that fits; start at ``guess``.

    The probe is assumed to fit below the answer and to fail above it, apart from noise. The first
    step away from a wrong guess is ``close``, by default 1; the second is 0.5% of the guess.
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
    """Probes values and keeps the results."""

    def __init__(self, probe: Probe, confirmations: int) -> None:
        self._probe = probe
        self._confirmations = confirmations
        self._hints: list[int] = []
        self._estimates: set[int] = set()
        self.seen: defaultdict[int, list[bool]] = defaultdict(list)

    @property
    def spent(self) -> bool:
        """True if no probe is left."""
        return sum(map(len, self.seen.values())) >= MOST_PROBES

    def fits(self, value: int) -> bool:
        """Probe once."""
        reading = self._probe(value)
        self.seen[value].append(reading.fits)
        estimate = reading.estimate
        if estimate is not None and len(self._estimates) < _TRUSTED:
            if estimate not in self._estimates:
                self._hints = [estimate + offset for offset in _AROUND]
            self._estimates.add(estimate)
        return reading.fits

    def hint(self, low: int, high: int) -> int | None:
        """Return the next value near the latest estimate and between the two sides."""
        return next((value for value in self._hints if low < value < high), None)

    def confirmed_from(self, value: int, end: int, *, fits: bool) -> int:
        """Move ``value`` away from the other side until it is confirmed, and return it."""
        away, step = (-1 if fits else 1), 1
        while value != end + away and not self._is_confirmed(value, fits) and not self.spent:
            value += away * (min(step, abs(end - value)) or 1)
            step *= 2
        return value

    def _is_confirmed(self, value: int, fits: bool) -> bool:
        """Probe ``value`` the required number of times; return whether all results were equal."""
        seen = self.seen[value]
        while len(seen) < self._confirmations and all(one == fits for one in seen):
            if self.spent:
                return False
            self.fits(value)
        return all(one == fits for one in seen)
