"""Finds lines of code that leak, i.e. that keep more and more memory over training steps.

A kept block is never freed, and it lives longer than any freed block of the same line. A line leaks
if it keeps new blocks again and again until the last step. Optimizer state and bounded caches stop
growing before the last steps. A line also leaks if it replaces its block with larger and larger
blocks while the other allocations of the steps do not grow.

The process of a dry run also imports this module, so the module has few imports.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise

from harness.schema.growth import LEAST_STEPS, Growth, too_few
from harness.schema.lifetimes import Lifetimes, bytes_alive

_LEAST_RISES = 3
_LEAST_BIRTHS = 4
"""Smallest number of steps in which a leaking line adds blocks; fewer may be single objects."""
_STEPS_TO_REPLACE = 8
"""Smallest number of steps in which growing blocks show a leak; growth in fewer may be chance."""
_KEPT_STEPS = 2
"""Number of steps that a loop variable or a prefetched batch may stay alive."""
_LEAST_SINCE = 2
_NET_SHARE, _NET_OF_FALLING = 0.25, 0.75
"""Smallest rise of total memory in a leak, as a share of the bytes that the leaking lines add.
``_NET_OF_FALLING`` is for lines that also free memory."""
_RISES_PER_FALL, _HIGHER = 3, 1.25
"""Smallest ratios in ``rose_and_fell``: rises to falls, and late peak to early peak."""
_MOST_PLACES = 5
_NEW_OPTIMIZERS = (
    "more is kept only where a new optimizer begins: something of the earlier training is still"
    " there"
)
_REPLACED = "the line replaces its block by a larger one: torch.cat, or a KV cache"


class KeptByLine:
    """Bytes that each line of code keeps at the end of each step.

    You may add blocks in any order. The object stores only changes between steps, so a block that
    recurs in every step needs no memory. Blocks of the first step, such as optimizer state, are
    left out.
    """

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}

    def add(self, place: str, begin: int, size: int, first: int, last: int | None) -> None:
        """Add a block allocated in step ``first`` and freed in step ``last``; None means never.

        ``begin`` is the position of the allocation event in the recording.
        """
        if first and first != last:
            line = self._lines.setdefault(place, _Line(begin))
            line.begin = min(line.begin, begin)
            line.add(size, first, last)

    def growth(
        self,
        ends_bytes: Sequence[int],
        allocated_bytes: Sequence[int],
        floor_bytes: int,
        begins: Collection[int] = (),
    ) -> Growth:
        """Return the growth of live memory over the steps, with the lines that leak.

        Args:
            ends_bytes: bytes alive at the end of each step.
            allocated_bytes: bytes that each step allocated.
            floor_bytes: bytes that are still allocated after the first step.
            begins: index of the first step of each optimizer, counted from 0.
        """
        count = len(ends_bytes)
        if count < LEAST_STEPS:
            return too_few(count, LEAST_STEPS)
        ends = tuple(ends_bytes)
        unknown = Growth(kind="unknown", reason="", ends_bytes=ends, first_step_bytes=floor_bytes)
        lines = self._lines
        kept = {place: steps for place, line in lines.items() if (steps := line.kept(count))}
        leaking = [place for place, steps in kept.items() if lines[place].leaks(steps, count)]
        may_go_on = any(
            lines[place].may_go_on(steps, count)
            for place, steps in kept.items()
            if place not in leaking
        )
        if leaking:
            total = self._older_bytes(ends_bytes)[_KEPT_STEPS:]
            grown = {place: kept[place] for place in leaking}
            if set().union(*grown.values()) <= {*begins, *(step - 1 for step in begins)}:
                return replace(unknown, reason=_NEW_OPTIMIZERS)
            return self._proved(replace(unknown, is_least=may_go_on), grown, total)
        if replaced := self._replaced(count):
            if self._allocates_more(replaced, allocated_bytes):
                place = min(replaced, key=lambda place: lines[place].begin)
                reason = f"{place} makes ever larger blocks, and so does the rest of the step"
                return replace(unknown, reason=f"{reason}: longer batches, perhaps")
            return self._proved(replace(unknown, causes=(_REPLACED,)), replaced, ends_bytes)
        windows = [rises for line in lines.values() if (rises := line.older.rises(count))]
        if may_go_on or not all(_has_ended(rises, count) for rises in windows):
            reason = f"more was kept now and then over {count} steps"
        elif any(line.rose_and_fell(count) for line in lines.values()):
            reason = f"what rose over {count} steps was freed"
        elif _ends_higher(ends_bytes):
            reason = f"more is alive at the end of {count} steps than before"
        else:
            reason = f"nothing more is kept over {count} steps"
            if windows:
                until = max(rises[-1] for rises in windows) + 1
                reason = f"nothing more is kept after step {until} of {count}"
            return replace(unknown, kind="plateau", reason=reason)
        return replace(unknown, reason=f"{reason}: more steps are needed")

    def _proved(
        self, growth: Growth, grown: Mapping[str, Mapping[int, int]], total: Sequence[int]
    ) -> Growth:
        """Return a leak if total memory rises with the bytes in ``grown``; else, unknown growth.

        Args:
            growth: the result to complete with the fields of a leak.
            grown: bytes that each leaking line added, by step.
            total: bytes alive at the end of each step.
        """
        count = len(growth.ends_bytes)
        steps = sorted(set().union(*grown.values()))
        first, last = steps[0], steps[-1]
        added = {place: _added(sizes, first) for place, sizes in grown.items()}
        per_step = sum(added.values()) // (last - first)
        falls = any(self._lines[place].older.falls(count) for place in grown)
        begin = first - 1 + (count // 4 if falls else 0)  # what fills is nearly full by then
        seen = total[min(begin, len(total) - 2) :]
        half = len(seen) // 2
        rise = sum(seen[-half:]) / half - sum(seen[:half]) / half
        if rise < per_step * half * (_NET_OF_FALLING if falls else _NET_SHARE):
            reason = f"a line keeps more, and as much is freed elsewhere, over {count} steps"
            return replace(growth, reason=reason, is_least=False, causes=())
        since = first + 1
        begins = "from the beginning" if since == _LEAST_SINCE else f"since step {since}"
        order = sorted(added, key=lambda place: (-added[place], self._lines[place].begin))
        return replace(
            growth,
            kind="leak",
            reason=f"more is kept after {len(steps)} of {count} steps, {begins}",
            per_step_bytes=per_step,
            since_step=since,
            places=tuple((place, added[place]) for place in order[:_MOST_PLACES]),
        )

    def _replaced(self, count: int) -> dict[str, dict[int, int]]:
        """For lines that replace a block with a larger block, return the added bytes by step."""
        found = {}
        for place, line in self._lines.items():
            rises = line.at_ends.rises(count)
            if count < _STEPS_TO_REPLACE or not rises or line.older.rises(count):
                continue
            is_one = min(line.never_freed, default=0) >= rises[-1] - _KEPT_STEPS
            if is_one and _goes_on(rises, count) and not _has_ended(rises, count):
                found[place] = {step: line.at_ends.by_step[step] for step in rises}
        return found

    def _allocates_more(
        self, replaced: Mapping[str, Mapping[int, int]], allocated_bytes: Sequence[int]
    ) -> bool:
        """Return whether lines outside ``replaced`` allocate more bytes per step in later steps."""
        first = min(min(steps) for steps in replaced.values())
        others = list(allocated_bytes)
        for place in replaced:
            born = self._lines[place].born.sizes(len(others))
            others = [size - own for size, own in zip(others, born, strict=True)]
        half = (first + len(others)) // 2
        return max(others[half:]) > max(others[first:half])

    def _older_bytes(self, ends_bytes: Sequence[int]) -> list[int]:
        """Return the bytes of blocks at least ``_KEPT_STEPS`` steps old, at each step's end."""
        younger = _Changes()
        for line in self._lines.values():
            for step, size in line.at_ends.by_step.items():
                younger.change(step, size)
            for step, size in line.older.by_step.items():
                younger.change(step, -size)
        sizes = younger.sizes(len(ends_bytes))
        return [all_ - young for all_, young in zip(ends_bytes, sizes, strict=True)]


@dataclass
class _Changes:
    """Changes of bytes from step to step; a block that replaces an equal block is not a change."""

    by_step: dict[int, int] = field(default_factory=dict)

    def count(self, size: int, first: int, last: int | None) -> None:
        """Add a block that lives from step ``first`` until step ``last``; None means forever."""
        if last is None or first < last:
            self.change(first, size)
            if last is not None:
                self.change(last, -size)

    def change(self, step: int, size: int) -> None:
        """Add ``size`` bytes to the change in a step; a negative size removes bytes."""
        self.by_step[step] = self.by_step.get(step, 0) + size
        if not self.by_step[step]:
            del self.by_step[step]

    def sizes(self, count: int) -> Iterator[int]:
        """Yield the total bytes in each step."""
        return accumulate(self.by_step.get(step, 0) for step in range(count))

    def rises(self, count: int) -> list[int]:
        """Return the steps in which bytes rise; empty if rises are few or if bytes ever fall."""
        steps = sorted(step for step in self.by_step if step < count)
        return steps if len(steps) >= _LEAST_RISES and not self.falls(count) else []

    def falls(self, count: int) -> int:
        """Return the number of steps in which bytes fall."""
        return sum(step < count and size < 0 for step, size in self.by_step.items())

    def rose_and_fell(self, count: int) -> bool:
        """Return whether bytes rise and fall, with a clearly higher peak in later steps."""
        alive = rises = falls = 0
        most = [0, 0]
        for step in sorted(step for step in self.by_step if step < count):
            alive += self.by_step[step]
            rises += self.by_step[step] > 0
            falls += self.by_step[step] < 0
            half = step >= count // 2
            most[half] = max(most[half], alive)
        often = rises >= max(_LEAST_RISES, _RISES_PER_FALL * falls)
        return falls > 0 and often and most[1] > _HIGHER * most[0]


@dataclass
class _Line:
    """Bytes of one line of code over the steps; ``begin`` is the position of the first allocation.

    Attributes:
        at_ends: bytes of the line's blocks that are alive at the end of each step.
        older: bytes of the line's live blocks that are at least ``_KEPT_STEPS`` steps old.
        born: bytes that the line allocates in each step.
        never_freed: bytes of blocks that are never freed, by the step of the allocation.
        longest: longest lifetime of a freed block, in steps.
    """

    begin: int
    at_ends: _Changes = field(default_factory=_Changes)
    older: _Changes = field(default_factory=_Changes)
    born: _Changes = field(default_factory=_Changes)
    never_freed: Counter[int] = field(default_factory=Counter)
    longest: int = _KEPT_STEPS

    def add(self, size: int, first: int, last: int | None) -> None:
        """Add a block allocated in step ``first`` and freed in step ``last``; None means never."""
        self.at_ends.count(size, first, last)
        self.older.count(size, first + _KEPT_STEPS, last)
        self.born.count(size, first, first + 1)
        if last is None:
            self.never_freed[first] += size
        else:
            self.longest = max(self.longest, last - first)

    def kept(self, count: int) -> dict[int, int]:
        """Return the bytes of kept blocks, by the step of the allocation.

        The result is empty if a freed block lived for over half of the steps, as in a sliding
        window.
        """
        if self.longest > max(_KEPT_STEPS, count // 2):
            return {}
        return {step: self.never_freed[step] for step in sorted(self.never_freed)
                if step < count - self.longest}  # fmt: skip

    def leaks(self, steps: Mapping[int, int], count: int) -> bool:
        """Return whether the line keeps new blocks again and again until the last step."""
        kept, born = list(steps), sorted(self.never_freed)
        return (
            len(kept) >= _LEAST_RISES
            and len(born) >= _LEAST_BIRTHS
            and not self._has_ended(kept, count)
            and _goes_on(kept, count - self.longest)
        )

    def may_go_on(self, steps: Mapping[int, int], count: int) -> bool:
        """Return whether the line kept a block so late that it may keep more blocks later."""
        kept = list(steps)
        if self.older.falls(count):
            return len(kept) > 1 and not self._has_ended(kept, count)
        few = [0] if len(kept) < _LEAST_RISES else []
        return not self._has_ended(few + kept, count)

    def _has_ended(self, kept: Sequence[int], count: int) -> bool:
        born = sorted({*kept, *self.never_freed})
        return _has_ended(kept, count - self.longest) or _has_ended(born, count)

    def rose_and_fell(self, count: int) -> bool:
        """Return whether the line's bytes rise and fall, with a higher peak in later steps."""
        return self.older.rose_and_fell(count) or self.at_ends.rose_and_fell(count)


def find_growth(
    lifetimes: Lifetimes, sizes: Sequence[int], ends: Sequence[int], place_of: Callable[[int], str]
) -> Growth:
    """Return the growth of live memory; ``ends`` is the number of events until each step's end."""
    count = len(ends)
    if count < LEAST_STEPS:
        return too_few(count, LEAST_STEPS)
    alive = bytes_alive(lifetimes, sizes)
    kept, allocated = KeptByLine(), [0] * (count + 1)
    for begin, freed in lifetimes.items():
        first = bisect_left(ends, begin + 1)
        last = count if freed is None else bisect_left(ends, freed + 1)
        allocated[first] += sizes[begin]
        kept.add(place_of(begin), begin, sizes[begin], first, None if last == count else last)
    floor = min(alive[ends[0] + 1 : ends[1] + 1], default=alive[ends[1]])
    floor -= min(alive[: ends[0] + 1])
    return kept.growth([alive[end] for end in ends], allocated[:count], floor)


def _added(sizes: Mapping[int, int], after: int) -> int:
    """Return the bytes added after step ``after``, without one addition of over half the bytes."""
    added = [size for step, size in sizes.items() if step > after]
    largest = max(added, default=0)
    return sum(added) - largest * (2 * largest > sum(added) and len(added) > 1)


def _has_ended(rises: Sequence[int], count: int) -> bool:
    """Return whether the pause after the last rise is longer than any pause between two rises."""
    between = [after - before for before, after in pairwise(rises)]
    return bool(between) and count - 1 - rises[-1] > max(between)


def _goes_on(rises: Sequence[int], count: int) -> bool:
    """Return whether rises stay frequent; while a cache fills, rises become rarer."""
    later = sum(step >= (rises[0] + count) // 2 for step in rises)
    return later * 3 >= len(rises)


def _ends_higher(ends_bytes: Sequence[int]) -> bool:
    """Return whether the last two steps end with more bytes than any of the first 75% of steps.

    The check finds growth that comes from a different line of code in each step.
    """
    earlier = 3 * len(ends_bytes) // 4
    return min(ends_bytes[-2:]) > max(ends_bytes[1:earlier])
