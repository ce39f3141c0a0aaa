"""Known contents of addresses after a number of allocations, and the owners of blocks by them."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.schema.block_categories import BlockCategory

_BEFORE, _AFTER = 2, 3


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Known contents of some addresses after a number of allocations.

    ``is_whole`` marks the few that name what every module of the process owns, not one optimizer.
    """

    allocations: int
    owners: Mapping[int, BlockCategory]
    is_whole: bool = False


class Lifetime(Protocol):
    """A block: its address, and the numbers of allocations when it was allocated and freed."""

    address: int
    allocation: int
    freed: int | None


def window(marks: Sequence[Mark], allocation: int) -> list[Mark]:
    """Return the marks around an allocation that name the owners of what was alive then."""
    place = bisect_left([mark.allocations for mark in marks], allocation)
    return kept(marks, range(max(0, place - _BEFORE), place + _AFTER))


def kept(marks: Sequence[Mark], places: range) -> list[Mark]:
    """Return the marks at some places, and those of all modules."""
    return [mark for place, mark in enumerate(marks) if place in places or mark.is_whole]


def owners_at(alive: Iterable[Lifetime], marks: Iterable[Mark]) -> dict[int, BlockCategory]:
    """Return the categories of blocks that an optimizer step saw, before or after."""
    owners: dict[int, BlockCategory] = {}
    blocks = list(alive)
    for mark in marks:
        for block in blocks:
            lived = block.allocation <= mark.allocations and (
                block.freed is None or block.freed >= mark.allocations
            )
            if lived and block.address in mark.owners:
                owners[block.address] = mark.owners[block.address]
    return owners
