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
_NARROWING, _SPARE = 4, 1
"""Probes after a measured guess, before those that confirm, and for a value that noise spoils: with
the one that measured, 10."""
_AROUND = (0, 1, -1, 3, -3)
"""Where the answer is looked for around an estimate."""
_TRUSTED = 3
"""How many different estimates are followed: they may lie, and the middle never does."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What one probe saw."""

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
    """Where it stops fitting.

    Sharp where ``band`` is empty: then ``smallest_fail`` is ``largest_fit`` + 1. Otherwise
    the values between the two fitted only sometimes, or were not distinguished.
    """

    largest_fit: int | None
    """Largest value that fitted every time; None where not even the least did."""
    smallest_fail: int | None
    """Smallest value above it that failed every time; None where the most still fitted or, if not
    confirmed, where each value that failed once fitted another time."""
    band: tuple[Tried, ...] = ()
    """Values between the two that were probed, in order."""
    confirmed: bool = True
    """Whether each side was seen as often as asked before the probes ran out."""


def search(
    probe: Probe,
    guess: int,
    *,
    least: int,
    most: int,
    confirmations: int = CONFIRMATIONS,
    off_by: int | None = None,
    fitted: int | None = None,
) -> Answer:
    """Return where ``probe`` stops fitting between ``least`` and ``most``, starting at ``guess``.

    The probe is taken to fit below the answer and to fail above it, give or take noise.
    ``off_by`` says by how many values a guess may be off that comes from what a probe needed, as
    far as charges vary. Then the search ends after 9 probes once it knows both sides; values
    that it could not distinguish until then stay between ``largest_fit`` and ``smallest_fail``,
    and where noise used up the confirmations, the answer is not ``confirmed``. ``fitted`` was
    seen to fit before, when the guess was measured.
    """
    most_probes = MOST_PROBES if off_by is None else _NARROWING + _SPARE + 2 * (confirmations - 1)
    tally = _Tally(probe, confirmations, most_probes)
    if fitted is not None:
        tally.seen[fitted] = [True]
    bracket = _Bracket(fits=least - 1, fails=most + 1)
    start = min(max(guess, least), most)
    distances = (1, math.ceil(_CLOSE * start) + 1) if off_by is None else (off_by, 2 * off_by)
    widening = _Widening(start=start, distances=distances)
    enough = MOST_PROBES if off_by is None else _NARROWING
    while not bracket.closed and tally.count < MOST_PROBES:
        unknown = bracket.fits < least or bracket.fails > most
        if tally.count >= enough and not unknown:
            break
        value = tally.hint(bracket)
        if value is None:
            value = widening.next(bracket, most) if unknown else bracket.middle
        bracket.note(value, fits=tally.fits(value))
    low = _Side(value=bracket.fits, fits=True, last=least - 1, step=off_by or 1)
    high = _Side(value=bracket.fails, fits=False, last=most + 1, step=off_by or 1)
    return _certify(tally, low, high)


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
    most: int
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

    def times(self, value: int) -> int:
        """Return how often ``value`` was probed."""
        return len(self.seen.get(value, ()))

    def always(self, value: int, *, fits: bool) -> bool:
        """Whether ``value`` did the same each time that it was probed."""
        return all(one == fits for one in self.seen.get(value, ()))

    @property
    def spent(self) -> bool:
        return self.count >= self.most

    def between(self, low: int, high: int) -> tuple[Tried, ...]:
        return tuple(
            Tried(value=value, fits=sum(seen), trials=len(seen))
            for value, seen in sorted(self.seen.items())
            if low < value < high
        )


@dataclass
class _Side:
    """One side of the answer, moved away from the other until it stands."""

    value: int
    fits: bool
    last: int
    """One beyond the values that can be probed: there nothing needs to be seen."""
    step: int

    def stands(self, tally: _Tally) -> bool:
        enough = tally.times(self.value) >= tally.confirmations
        return self.value == self.last or (enough and tally.always(self.value, fits=self.fits))

    def move(self, tally: _Tally) -> None:
        """Move on to a value that always did what this side should, or ``step`` if it is nearer."""
        stepped = self._onwards(self.step)
        self.step *= 2
        known = self.nearest_known(tally)
        self.value = min(stepped, known, key=lambda value: abs(value - self.value))

    def nearest_known(self, tally: _Tally) -> int:
        """Return the nearest value from here on that always did what this side should."""
        beyond = (value for value in tally.seen if self._is_beyond(value))
        known = [value for value in beyond if tally.always(value, fits=self.fits)]
        return min(known, key=lambda value: abs(value - self.value), default=self.last)

    def _onwards(self, step: int) -> int:
        if self.fits:
            return max(
                self.value - step, self.last + 1 if self.value > self.last + 1 else self.last
            )
        return min(self.value + step, self.last - 1 if self.value < self.last - 1 else self.last)

    def _is_beyond(self, value: int) -> bool:
        return value <= self.value if self.fits else value >= self.value


def _certify(tally: _Tally, low: _Side, high: _Side) -> Answer:
    """Confirm both sides in turns, so that a contradiction shows early."""
    sides = (low, high)
    while not tally.spent and (open_ := [side for side in sides if not side.stands(tally)]):
        side = min(open_, key=lambda side: tally.times(side.value))
        if tally.always(side.value, fits=side.fits):
            tally.fits(side.value)
        if not tally.always(side.value, fits=side.fits):
            side.move(tally)
    confirmed = all(side.stands(tally) for side in sides)
    for side in sides:
        side.value = side.nearest_known(tally)  # it may have moved to one that nobody has tried
    return Answer(
        largest_fit=low.value if low.value != low.last else None,
        smallest_fail=high.value if high.value != high.last else None,
        band=tally.between(low.value, high.value),
        confirmed=confirmed,
    )
