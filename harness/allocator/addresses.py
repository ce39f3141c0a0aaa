"""Placement of segments by a driver, as far as the allocator can notice.

Only the order of addresses matters: among free blocks of equal size the allocator uses
the lowest. Real drivers are not monotone (15–40% of the steps ascend in recordings),
so a prediction runs several policies and reports the range.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol

from harness.allocator.config import AllocatorConfig

ALIGNMENT_BYTES = 1 << 21
_FIRST = 1 << 32
_LAST = 1 << 60
_END = 1 << 64


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


class AddressPolicy(Protocol):
    """Chooses the address of a new segment; segments alive at one time must not overlap."""

    def place(self, size_bytes: int) -> int:
        """Return the address of a new segment of ``size_bytes``."""

    def release(self, address: int, size_bytes: int) -> None:
        """Forget the segment at ``address``, which was freed; do nothing if none is remembered."""
        del address, size_bytes


class Ascending(AddressPolicy):
    """Each segment above all earlier ones; addresses are never used again."""

    def __init__(self, first: int = _FIRST) -> None:
        self._next = first

    def place(self, size_bytes: int) -> int:
        """Return the next free address above."""
        address = self._next
        self._next += _aligned(size_bytes)
        if self._next > _END:
            raise ValueError(f"no addresses are left for a segment of {size_bytes} bytes")
        return address


class Descending(AddressPolicy):
    """Each segment below all earlier ones; addresses are never used again."""

    def __init__(self, last: int = _LAST) -> None:
        self._next = last

    def place(self, size_bytes: int) -> int:
        """Return the next free address below."""
        self._next -= _aligned(size_bytes)
        if self._next < 0:
            raise ValueError(f"no addresses are left for a segment of {size_bytes} bytes")
        return self._next


class Scattered(AddressPolicy):
    """Pseudo-random addresses, the same for the same seed."""

    def __init__(self, seed: int = 0) -> None:
        self._random = Random(seed)
        self._taken: list[tuple[int, int]] = []

    def place(self, size_bytes: int) -> int:
        """Return an address drawn until it overlaps nothing that is alive."""
        size = _aligned(size_bytes)
        while True:
            slot = self._random.randrange(_FIRST // ALIGNMENT_BYTES, _LAST // ALIGNMENT_BYTES)
            address = slot * ALIGNMENT_BYTES
            index = bisect_left(self._taken, (address, 0))
            above = index < len(self._taken) and self._taken[index][0] < address + size
            below = index > 0 and sum(self._taken[index - 1]) > address
            if not above and not below:
                self._taken.insert(index, (address, size))
                return address

    def release(self, address: int, size_bytes: int) -> None:
        """Make the place free again."""
        del self._taken[bisect_left(self._taken, (address, size_bytes))]


class LowestFree(AddressPolicy):
    """The lowest gap that is wide enough, so that freed addresses come back first."""

    def __init__(self) -> None:
        self._gaps: list[tuple[int, int]] = [(_FIRST, _LAST)]

    def place(self, size_bytes: int) -> int:
        """Return the beginning of the first wide gap."""
        size = _aligned(size_bytes)
        for index, (start, end) in enumerate(self._gaps):
            if end - start >= size:
                self._gaps[index : index + 1] = [(start + size, end)] if end - start > size else []
                return start
        raise ValueError(f"no room for a segment of {size_bytes} bytes")

    def release(self, address: int, size_bytes: int) -> None:
        """Widen or add a gap."""
        start, end = address, address + _aligned(size_bytes)
        index = bisect_left(self._gaps, (start, end))
        if index < len(self._gaps) and self._gaps[index][0] == end:
            end = self._gaps.pop(index)[1]
        if index > 0 and self._gaps[index - 1][1] == start:
            start = self._gaps.pop(index - 1)[0]
        insort(self._gaps, (start, end))


_POLICIES: tuple[Callable[[], AddressPolicy], ...] = (
    Ascending,
    Descending,
    LowestFree,
    lambda: Scattered(1),
    lambda: Scattered(2),
)


def policies_to_try(config: AllocatorConfig) -> Sequence[Callable[[], AddressPolicy]]:
    """Return the ways of placing segments that a range covers.

    One where addresses do not matter: in expandable segments only sizes decide.
    """
    return _POLICIES[:1] if config.expandable_segments else _POLICIES
