"""Finds where a probe stops fitting: brackets from a guess, bisects, confirms on both sides.

Pure logic: the probe is handed in, so planted probes test it without using memory. The probe
may be noisy, the guess may be wrong by any factor, and there may be no answer at all.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from harness.schema.threshold import BandValue

CONFIRMATIONS = 3
"""Number of times that each side of the answer must be seen."""
MOST_PROBES = 80
"""Number of probes after which a noisy search ends."""
_CLOSE = 0.0051
"""Largest error of a good guess, as a share; also the second step of the widening."""
_AROUND = (0, 1, -1, 3, -3)
"""Distances from an estimate at which the answer is looked for."""
_TRUSTED = 3
"""Number of different estimates that are followed; they may be wrong, bisection is not."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The observation of one probe."""

    fits: bool
    estimate: int | None = None
    """The answer, estimated from what this probe needed; None if that is not known."""


Probe = Callable[[int], Reading]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The largest value that fits, and the smallest that does not."""

    largest_fit: int | None
    """Largest value that fitted every time; None if not even the least did."""
    smallest_fail: int | None
    """Smallest value above it that failed every time; None if the most still fitted."""
    band: tuple[BandValue, ...] = ()
    """Values between the two that were probed, in order."""
    confirmed: bool = True
    """Whether each side was seen as often as asked before the probes ran out. If not, the two
    values are where the search ended, and nothing more is known of them."""


def search(
    probe: Probe,
    guess: int,
    *,
    least: int,
    most: int,
    confirmations: int = CONFIRMATIONS,
    close: int | None = None,
) -> Answer:
    """Return where ``probe`` stops fitting between ``least`` and ``most``, starting at ``guess``.

    The probe is assumed to fit below the answer and to fail above it, apart from noise. A guess
    that is wrong may be off by ``close`` values, one if not given, then by half a per cent.
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
    """Probes and remembers the results."""

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
        """Return the next value around the latest estimate that lies between the two."""
        return next((value for value in self._hints if low < value < high), None)

    def confirmed_from(self, value: int, end: int, *, fits: bool) -> int:
        """Return ``value``, moved away from the other side until it was seen often enough."""
        away, step = (-1 if fits else 1), 1
        while value != end + away and not self._is_confirmed(value, fits) and not self.spent:
            value += away * (min(step, abs(end - value)) or 1)
            step *= 2
        return value

    def _is_confirmed(self, value: int, fits: bool) -> bool:
        """Probe ``value`` until it was seen often enough; whether it was the same each time."""
        seen = self.seen[value]
        while len(seen) < self._confirmations and all(one == fits for one in seen):
            if self.spent:
                return False
            self.fits(value)
        return all(one == fits for one in seen)
