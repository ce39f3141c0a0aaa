"""Growth of what stays alive over training steps, judged for each line that allocates.

Activations come and go within a step; what is still there two steps later is kept by something. A
program keeps the optimizer's state once, and a bounded cache until it is full: only what rises
again and again, and has not ended, is growth. A line can also replace its block by a larger one.

The process of a dry run loads this module too, so it imports little.
"""

import itertools
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from harness.schema.lifetimes import Lifetimes, bytes_alive
from harness.schema.units import format_bytes

Kind = Literal["leak", "plateau", "unknown"]
LEAST_STEPS, _LEAST_RISES = 4, 3
_STEPS_TO_REPLACE = 8
"""Fewer inputs of varying length may rise by chance."""
_KEPT_STEPS = 2
"""A loop's variables, and batches that are fetched ahead, live for up to that many steps."""
_LEAST_SINCE = 2
_NET_SHARE = 4
"""Memory rises by at least this part of what lines add; otherwise as much is freed elsewhere."""
_MOST_PLACES = 5
_REPLACED = "the line replaces its block by a larger one: a longer batch, torch.cat, or a KV cache"


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Growth of the memory that stays alive over training steps.

    Attributes:
        ends_bytes: bytes alive at the end of each optimizer step.
        per_step_bytes: what a step adds, on average from the first that adds to the last.
        first_step_bytes: what the first step left.
        since_step: the step that added first, of those after the first step, which is 1.
        places: lines, with the bytes that each added from the first such step to the last.
        causes: what keeps the memory, as far as it was seen.
    """

    kind: Kind
    reason: str
    ends_bytes: tuple[int, ...] = ()
    per_step_bytes: int = 0
    first_step_bytes: int = 0
    since_step: int | None = None
    places: tuple[tuple[str, int], ...] = ()
    causes: tuple[str, ...] = ()

    def lines(self, of: str = "", left_bytes: int | None = None) -> Iterator[str]:
        """Yield the growth in words.

        Args:
            of: words that name whose growth it is, if it is not clear.
            left_bytes: memory that is left at the end of the steps.

        >>> list(Growth(kind="plateau", reason="nothing more is kept").lines(" of GPU 1"))
        ['No growth of GPU 1: nothing more is kept.']
        """
        if self.kind != "leak":
            word = "No growth" if self.kind == "plateau" else "Growth is not known"
            yield f"{word}{of}: {self.reason}."
            return
        yield f"Growth{of}: {format_bytes(self.per_step_bytes)} more a step; {self.reason}."
        if left_bytes is not None:
            last = len(self.ends_bytes) + max(0, left_bytes) // max(1, self.per_step_bytes)
            yield f"  Memory ends after about {last:,} steps."
        for place, size in self.places:
            yield f"    {format_bytes(size):>10}  {place}"
        yield from (f"  {cause}." for cause in self.causes)


class KeptByLine:
    """Bytes that each line keeps over ends of steps; blocks come in any order.

    Only changes are held, so what comes and goes in every step takes nothing. Blocks of the first
    step, such as the optimizer's state, are left out.
    """

    def __init__(self) -> None:
        self._at_ends: dict[str, _Line] = {}
        self._older: dict[str, _Line] = {}
        """Sums of what is older than ``_KEPT_STEPS``."""

    def add(self, place: str, begin: int, size: int, first: int, last: int | None) -> None:
        """Count a block in the steps from ``first`` on, up to ``last`` if it was freed.

        ``begin`` is the position of its allocation, which orders the lines.
        """
        for lines, since in ((self._at_ends, first), (self._older, first + _KEPT_STEPS)):
            if first and (last is None or since < last):
                line = lines.setdefault(place, _Line(begin))
                line.begin = min(line.begin, begin)
                line.change(since, size)
                if last is not None:
                    line.change(last, -size)

    def growth(self, ends_bytes: Sequence[int], floor_bytes: int) -> Growth:
        """Return the growth over the steps.

        Args:
            ends_bytes: bytes alive at the end of each step.
            floor_bytes: least bytes alive in the second step.
        """
        count = len(ends_bytes)
        if count < LEAST_STEPS:
            return _too_few(count, LEAST_STEPS)
        level = Growth(
            kind="plateau",
            reason=f"nothing more is kept over {count} steps",
            ends_bytes=tuple(ends_bytes),
            first_step_bytes=floor_bytes,
        )
        lines, rising = self._older, _rising(self._older, count)
        replaced = not rising and count >= _STEPS_TO_REPLACE
        if replaced:
            lines, rising = self._at_ends, _rising(self._at_ends, count)
        going_on = {place: rises for place, rises in rising.items() if _goes_on(rises, count)}
        if going_on:
            first = min(rises[0] for rises in going_on.values())
            last = max(rises[-1] for rises in going_on.values())
            total = ends_bytes if replaced else self._older_bytes(ends_bytes)
            half = (first + count) // 2
            rise = max(total[half:]) - max(total[first - 1 : half])
            if rise * _NET_SHARE < sum(lines[place].added(half - 1, last) for place in going_on):
                reason = f"a line keeps more, and as much is freed elsewhere, over {count} steps"
                return replace(level, kind="unknown", reason=reason)
            added = {place: lines[place].added(first, last) for place in going_on}
            steps = len(set().union(*going_on.values()))
            since = first + 1 if replaced else first + 1 - _KEPT_STEPS
            begins = "from the beginning" if since == _LEAST_SINCE else f"since step {since}"
            order = sorted(added, key=lambda place: (-added[place], lines[place].begin))
            return replace(
                level,
                kind="leak",
                reason=f"more is kept after {steps} of {count} steps, {begins}",
                per_step_bytes=sum(added.values()) // (last - first),
                since_step=since,
                places=tuple((place, added[place]) for place in order[:_MOST_PLACES]),
                causes=(_REPLACED,) if replaced else (),
            )
        if rising and not all(_has_ended(rises, count) for rises in rising.values()):
            reason = f"more was kept ever more rarely over {count} steps: more steps are needed"
            return replace(level, kind="unknown", reason=reason)
        if _ends_higher(ends_bytes) or any(line.may_rise(count) for line in self._older.values()):
            reason = f"more is alive at the end of {count} steps than before: more steps are needed"
            return replace(level, kind="unknown", reason=reason)
        if rising:
            until = max(rises[-1] for rises in rising.values())
            return replace(level, reason=f"nothing more is kept after step {until + 1} of {count}")
        return level

    def _older_bytes(self, ends_bytes: Sequence[int]) -> list[int]:
        """Return what is alive at the end of each step, without what is younger than that."""
        younger = [0] * len(ends_bytes)
        for lines, sign in ((self._at_ends, 1), (self._older, -1)):
            for line in lines.values():
                for step, size in line.changes.items():
                    if step < len(younger):
                        younger[step] += sign * size
        return [
            all_ - young
            for all_, young in zip(ends_bytes, itertools.accumulate(younger), strict=True)
        ]


@dataclass
class _Line:
    """Bytes that a line keeps: the position of its first block, and changes from step to step."""

    begin: int
    changes: dict[int, int] = field(default_factory=dict)

    def change(self, step: int, size: int) -> None:
        self.changes[step] = self.changes.get(step, 0) + size
        if not self.changes[step]:
            del self.changes[step]

    def added(self, first: int, last: int) -> int:
        """Return the bytes that were added after one step, up to another."""
        return sum(size for step, size in self.changes.items() if first < step <= last)

    def may_rise(self, count: int) -> bool:
        """Return whether it rose so few times, and so late, that it may rise again."""
        changes = {step: size for step, size in self.changes.items() if step < count}
        few = 0 < len(changes) < _LEAST_RISES and min(changes.values()) > 0
        return few and not _has_ended([0, *sorted(changes)], count)

    def rises(self, count: int) -> list[int]:
        """Return the steps in which more is held; none if they are few, or it falls."""
        changes = {step: size for step, size in self.changes.items() if step < count}
        rises = sorted(changes)
        return rises if len(rises) >= _LEAST_RISES and min(changes.values()) > 0 else []


def _rising(lines: Mapping[str, _Line], count: int) -> dict[str, list[int]]:
    return {place: rises for place, line in lines.items() if (rises := line.rises(count))}


def find_growth(
    lifetimes: Lifetimes, sizes: Sequence[int], ends: Sequence[int], place_of: Callable[[int], str]
) -> Growth:
    """Return the growth over the steps, given the number of events by the end of each."""
    if len(ends) < LEAST_STEPS:
        return _too_few(len(ends), LEAST_STEPS)
    alive = bytes_alive(lifetimes, sizes)
    kept = KeptByLine()
    for begin, freed in lifetimes.items():
        first = bisect_left(ends, begin + 1)
        last = len(ends) if freed is None else bisect_left(ends, freed + 1)
        if 0 < first < last:
            kept.add(place_of(begin), begin, sizes[begin], first, last)
    floor = min(alive[ends[0] + 1 : ends[1] + 1], default=alive[ends[1]])
    return kept.growth([alive[end] for end in ends], floor - min(alive[: ends[0] + 1]))


def series_growth(ends_bytes: Sequence[int], least_bytes: int) -> Growth:
    """Return the growth of a series that has noise: bytes alive at the end of each step.

    Memory that is freed later does not count as growth, so each step counts as the least of it and
    all later ones, and the last two end nothing. The first quarter of the steps warms up; a leak
    adds in each other quarter, and what no longer rises in the second half is level.

    Args:
        ends_bytes: bytes alive at the end of each step.
        least_bytes: growth a step that noise does not reach.

    >>> series_growth([10, 30, 20, 40, 50, 60, 80, 80, 100], 5).per_step_bytes
    10
    """
    count, ends = len(ends_bytes), tuple(ends_bytes)
    if count < 2 * LEAST_STEPS:
        return _too_few(count, 2 * LEAST_STEPS)
    kept = list(itertools.accumulate(reversed(ends), min))[::-1]
    marks = [(count - 1 - _KEPT_STEPS) * quarter // 4 for quarter in (1, 2, 3, 4)]
    rises = sorted(
        (kept[end] - kept[begin]) // (end - begin) for begin, end in itertools.pairwise(marks)
    )
    noise = f"less than {format_bytes(least_bytes)} a step"
    reason = f"{noise} is kept in the second half of {count} steps"
    level = Growth(kind="plateau", reason=reason, ends_bytes=ends)
    if rises[0] >= least_bytes:
        reason = f"more is kept in each quarter of {count} steps"
        return replace(level, kind="leak", reason=reason, per_step_bytes=rises[1])
    if kept[marks[3]] - kept[marks[1]] >= least_bytes * (marks[3] - marks[1]):
        reason = f"more was kept in some of {count} steps only: more steps are needed"
        return replace(level, kind="unknown", reason=reason)
    return level


def _too_few(count: int, least: int) -> Growth:
    return Growth(kind="unknown", reason=f"too few steps ({count} of at least {least})")


def _has_ended(rises: Sequence[int], count: int) -> bool:
    """Return whether it has not risen for longer than between any two rises."""
    return count - 1 - rises[-1] > max(
        after - before for before, after in itertools.pairwise(rises)
    )


def _ends_higher(ends_bytes: Sequence[int]) -> bool:
    """Return whether the last two steps end with more than any of the first three quarters.

    Lines that also free, a new line each time, or growth that has just begun: no line rises.
    """
    earlier = 3 * len(ends_bytes) // 4
    return min(ends_bytes[-2:]) > max(ends_bytes[1:earlier])


def _goes_on(rises: Sequence[int], count: int) -> bool:
    """Return whether it still rises, and not ever more rarely, as a cache does that fills."""
    later = sum(step >= (rises[0] + count) // 2 for step in rises)
    return not _has_ended(rises, count) and later * 3 >= len(rises)
