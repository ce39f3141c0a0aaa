"""Finds the owners of blocks from marks; a mark lists the known owners at one moment."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from harness.schema.block_categories import BlockCategory

_BEFORE, _AFTER = 2, 3


@dataclass(frozen=True, kw_only=True)
class Mark:
    """The known owners of GPU blocks at one moment, by the address of the block.

    ``is_whole`` is True for a mark of all modules, and False for a mark of one optimizer.
    """

    allocations: int
    owners: Mapping[int, BlockCategory]
    is_whole: bool = False


class Lifetime(Protocol):
    """A block's address, and how many allocations preceded its allocation and its free."""

    address: int
    allocation: int
    freed: int | None


def window(marks: Sequence[Mark], allocation: int) -> list[Mark]:
    """Return the nearest marks before and after an allocation, and all marks with ``is_whole``."""
    place = bisect_left([mark.allocations for mark in marks], allocation)
    return kept(marks, range(max(0, place - _BEFORE), place + _AFTER))


def kept(marks: Sequence[Mark], places: range) -> list[Mark]:
    """Return the marks at the indices ``places``, and all marks with ``is_whole``."""
    return [mark for place, mark in enumerate(marks) if place in places or mark.is_whole]


Owned = TypeVar("Owned", bound=Lifetime)


def owners_at(
    blocks: Iterable[Owned], marks: Iterable[tuple[int, Mapping[int, BlockCategory]]]
) -> dict[Owned, BlockCategory]:
    """Return the owner of each block that was alive at one of the marks.

    Args:
        blocks: blocks; several blocks may have used the same address, one after another.
        marks: pairs of an allocation count and owners by address; later pairs have priority.
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
