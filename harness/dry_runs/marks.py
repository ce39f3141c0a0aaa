"""Finds the owners of blocks by marks, i.e. known contents of addresses at some moments."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from harness.schema.block_categories import BlockCategory

_BEFORE, _AFTER = 2, 3


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Known contents of some addresses after a number of allocations.

    ``is_whole`` is True if the mark has all modules of the process; False if it has one optimizer.
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
    """Return the marks around an allocation that name the owners of the blocks alive then."""
    place = bisect_left([mark.allocations for mark in marks], allocation)
    return kept(marks, range(max(0, place - _BEFORE), place + _AFTER))


def kept(marks: Sequence[Mark], places: range) -> list[Mark]:
    """Return the marks at some places, and the marks of all modules."""
    return [mark for place, mark in enumerate(marks) if place in places or mark.is_whole]


Owned = TypeVar("Owned", bound=Lifetime)


def owners_at(
    blocks: Iterable[Owned], marks: Iterable[tuple[int, Mapping[int, BlockCategory]]]
) -> dict[Owned, BlockCategory]:
    """Return the owners of the blocks that lived at one of the marks.

    Args:
        blocks: the blocks, several at one address if they lived one after another.
        marks: pairs of a number of allocations and owners by address; the last pair counts.
    """
    at: defaultdict[int, list[Owned]] = defaultdict(list)
    for block in blocks:
        at[block.address].append(block)
    owners: dict[Owned, BlockCategory] = {}
    for number, known in marks:
        for address, owner in known.items():
            for block in at.get(address, ()):
                if block.allocation <= number and (block.freed is None or block.freed >= number):
                    owners[block] = owner
    return owners
