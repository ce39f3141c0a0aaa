"""Finds where a probe stops fitting: brackets from a guess, bisects, confirms on both sides.

Pure logic: the probe is handed in, so planted probes test it without using memory. The probe
may be noisy, the guess may be wrong by any factor, and there may be no answer at all.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

CONFIRMATIONS = 3
"""How often each side of the answer is seen before it is believed."""
MOST_PROBES = 80
"""Where noise keeps a search from ending, it ends here."""
_CLOSE = 0.0051
"""How far off a good guess may be, as a share: the second step of the widening."""
_AROUND = (0, 1, -1, 3, -3)
"""Where the answer is looked for around an estimate."""
_TRUSTED = 3
"""How many different estimates are followed: they may lie, and the middle never does."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The observation of one probe."""

    fits: bool
    estimate: int | None = None
    """Where the answer lies, judged by what this probe needed; None where it cannot tell."""


Probe = Callable[[int], Reading]


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A value with how often it was probed and how often it fitted."""

    value: int
    fits: int
    trials: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The largest value that fits, and the smallest that does not."""

    largest_fit: int | None
    """Largest value that fitted every time; None where not even the least did."""
    smallest_fail: int | None
    """Smallest value above it that failed every time; None where the most still fitted."""
    band: tuple[Tried, ...] = ()
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

    The probe is taken to fit below the answer and to fail above it, give or take noise.
    A guess that is wrong may be off by ``close`` values, one if not given, then by half a per cent.
    """
    tally = _Tally(probe, confirmations)
    bracket = _Bracket(fits=least - 1, fails=most + 1)
    start = min(max(guess, least), most)
    distances = (close or 1, math.ceil(_CLOSE * start) + 1)
    widening = _Widening(start=start, distances=distances)
    while not bracket.closed and not tally.spent:
        value = tally.hint(bracket)
        if value is None:
            unknown = bracket.fits < least or bracket.fails > most
            value = widening.next(bracket, most) if unknown else bracket.middle
        bracket.note(value, fits=tally.fits(value))
    return _certify(tally, bracket.fits, bracket.fails, least, most)


@dataclass
class _Bracket:
    """The largest value that fitted and the smallest that failed, so far."""

    fits: int
    fails: int

    @property
    def closed(self) -> bool:
        return self.fails - self.fits <= 1

    @property
    def middle(self) -> int:
        return (self.fits + self.fails) // 2

    def holds(self, value: int) -> bool:
        return self.fits < value < self.fails

    def note(self, value: int, *, fits: bool) -> None:
        if fits:
            self.fits = value
        else:
            self.fails = value


@dataclass
class _Widening:
    """The guess, then ``distances`` away from it, then distances that grow fourfold."""

    start: int
    distances: tuple[int, ...]
    distance: int = 0

    def next(self, bracket: _Bracket, most: int) -> int:
        upward = bracket.fails > most
        value = self.start + (self.distance if upward else -self.distance)
        if self.distances:
            self.distance, *rest = self.distances
            self.distances = tuple(rest)
        else:
            self.distance *= 4
        return min(max(value, bracket.fits + 1), bracket.fails - 1)


@dataclass
class _Tally:
    """Probes and remembers what came of it."""

    probe: Probe
    confirmations: int
    seen: dict[int, list[bool]] = field(default_factory=dict)
    count: int = 0
    _hints: list[int] = field(default_factory=list)
    _estimates: set[int] = field(default_factory=set)

    def fits(self, value: int) -> bool:
        self.count += 1
        reading = self.probe(value)
        self.seen.setdefault(value, []).append(reading.fits)
        estimate = reading.estimate
        if estimate is not None and len(self._estimates) < _TRUSTED:
            if estimate not in self._estimates:
                self._hints = [estimate + offset for offset in _AROUND]
            self._estimates.add(estimate)
        return reading.fits

    def hint(self, bracket: _Bracket) -> int | None:
        """Return the next value around the latest estimate that the bracket leaves open."""
        while self._hints:
            value = self._hints.pop(0)
            if bracket.holds(value):
                return value
        return None

    def confirmed(self, value: int, *, fits: bool) -> bool:
        """Probe ``value`` until it was seen often enough; whether it was the same each time."""
        seen = self.seen.setdefault(value, [])
        while len(seen) < self.confirmations and all(one == fits for one in seen):
            if self.spent:
                return False
            self.fits(value)
        return all(one == fits for one in seen)

    @property
    def spent(self) -> bool:
        return self.count >= MOST_PROBES

    def between(self, low: int, high: int) -> tuple[Tried, ...]:
        return tuple(
            Tried(value=value, fits=sum(seen), trials=len(seen))
            for value, seen in sorted(self.seen.items())
            if low < value < high
        )


def _certify(tally: _Tally, fits: int, fails: int, least: int, most: int) -> Answer:
    """Confirm both sides, each moved away from the other until it stands."""
    low, high, step = fits, fails, 1
    while low >= least and not tally.confirmed(low, fits=True) and not tally.spent:
        low, step = max(low - step, least if low > least else least - 1), 2 * step
    step = 1
    while high <= most and not tally.confirmed(high, fits=False) and not tally.spent:
        high, step = min(high + step, most if high < most else most + 1), 2 * step
    return Answer(
        largest_fit=low if low >= least else None,
        smallest_fail=high if high <= most else None,
        band=tally.between(low, high),
        confirmed=not tally.spent,
    )
