"""Detects growth of live memory over training steps, also in a noisy series.

The process of a dry run also imports this module, so the module has few imports.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from harness.schema.units import format_bytes

Kind = Literal["leak", "plateau", "unknown"]
LEAST_STEPS = 4
_SLOWER = 0.9
"""Growth may end if each quarter of the steps adds less than this share of the previous quarter."""


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Growth of live memory over training steps.

    Attributes:
        ends_bytes: bytes alive at the end of each optimizer step.
        per_step_bytes: average bytes that a step adds, from ``since_step`` to the last step.
        is_least: True if ``per_step_bytes`` is a lower bound, as other code may also add memory.
        first_step_bytes: bytes that are still allocated after the first step.
        since_step: the first step after step 1 that added memory.
        places: lines of code, each with the bytes that the line added since ``since_step``.
        causes: known causes of the growth, each as a sentence.
    """

    kind: Kind
    reason: str
    ends_bytes: tuple[int, ...] = ()
    per_step_bytes: int = 0
    is_least: bool = False
    first_step_bytes: int = 0
    since_step: int | None = None
    places: tuple[tuple[str, int], ...] = ()
    causes: tuple[str, ...] = ()

    def lines(self, of: str = "", left_bytes: int | None = None) -> Iterator[str]:
        """Yield the growth as lines of text.

        Args:
            of: text after the word "Growth", such as ``" of GPU 1"``.
            left_bytes: free bytes after the last step; None if unknown.

        >>> list(Growth(kind="plateau", reason="nothing more is kept").lines(" of GPU 1"))
        ['No growth of GPU 1: nothing more is kept.']
        """
        if self.kind != "leak":
            word = "No growth" if self.kind == "plateau" else "Growth is not known"
            yield f"{word}{of}: {self.reason}."
            return
        size = "at least " * self.is_least + format_bytes(self.per_step_bytes)
        yield f"Growth{of}: {size} more a step; {self.reason}."
        if left_bytes is not None:
            last = len(self.ends_bytes) + max(0, left_bytes) // max(1, self.per_step_bytes)
            yield f"  Memory ends after {'at most' if self.is_least else 'about'} {last:,} steps."
        for place, size_bytes in self.places:
            yield f"    {format_bytes(size_bytes):>10}  {place}"
        yield from (f"  {cause}." for cause in self.causes)


def series_growth(ends_bytes: Sequence[int], least_bytes: int) -> Growth:
    """Return the growth of a noisy series of live bytes, with one value per step.

    In a leak, the minimum and maximum of live bytes rise in each quarter of the steps, and the
    rises do not keep shrinking. While a cache fills, each quarter of the steps adds less memory.
    Growth has ended if live bytes rise by less than ``least_bytes / 2`` per step in the second
    half.

    Args:
        ends_bytes: bytes alive at the end of each step.
        least_bytes: smallest growth per step that is larger than the noise.

    >>> series_growth([10, 30, 20, 40, 50, 60, 80, 80, 100], 5).per_step_bytes
    12
    """
    count, ends = len(ends_bytes), tuple(ends_bytes)
    if count < 2 * LEAST_STEPS:
        return too_few(count, 2 * LEAST_STEPS)
    growth = Growth(kind="unknown", reason="", ends_bytes=ends)
    parts = [ends[count * part // 4 : count * (part + 1) // 4] for part in range(4)]
    least, most = _rises(list(map(min, parts))), _rises(list(map(max, parts)))
    enough = least_bytes * count / 4  # in a quarter, or in two at half of the rate
    rises = 2 * min(*least, *most) >= enough
    highest = _most_of_two(ends[count // 2 :])
    if rises and sum(least) >= 3 * enough:
        added = _rises([sum(part) / len(part) for part in parts])
        if any(later >= _SLOWER * before for before, later in pairwise(added)):
            reason = f"more is kept in each quarter of {count} steps"
            slope = _slope(ends[count // 4 :])
            return replace(growth, kind="leak", reason=reason, per_step_bytes=slope)
        reason = f"ever less was kept in each quarter of {count} steps"
    elif rises:
        reason = f"about {format_bytes(_slope(ends))} a step is kept, and noise may be as much"
    elif least[1] + least[2] < enough and highest - _most_of_two(parts[1]) < enough:
        noise = f"less than {format_bytes(least_bytes // 2)} a step"
        reason = f"{noise} is kept in the second half of {count} steps"
        return replace(growth, kind="plateau", reason=reason)
    elif max(ends[-2:]) < highest:
        reason = f"what rose over {count} steps was freed before their end"
    else:
        reason = f"more was kept in some of {count} steps only"
    return replace(growth, reason=f"{reason}: more steps are needed")


def too_few(count: int, least: int) -> Growth:
    """Return an unknown growth, because there are fewer steps than ``least``."""
    return Growth(kind="unknown", reason=f"too few steps ({count} of at least {least})")


def _rises(sizes: Sequence[float]) -> list[float]:
    return [after - before for before, after in pairwise(sizes)]


def _most_of_two(sizes: Sequence[int]) -> int:
    """Return the largest size that two successive steps reach; a single step may be an outlier."""
    return max(map(min, pairwise(sizes)))


def _slope(sizes: Sequence[int]) -> int:
    """Return the bytes that each step adds, from a least-squares fit to ``sizes``."""
    middle = (len(sizes) - 1) / 2
    turned = sum((step - middle) * size for step, size in enumerate(sizes))
    return round(turned / sum((step - middle) ** 2 for step in range(len(sizes))))
