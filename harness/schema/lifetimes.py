"""Lifetimes of blocks in an event log of PyTorch's CUDA allocator.

The process of a dry run also loads this module, so it imports only the standard library.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

Lifetimes = Mapping[int, int | None]
"""For each allocation's position, the position of the event that frees the block, or None."""


def find_lifetimes(events: Iterable[tuple[str, int]]) -> Lifetimes:
    """Return the lifetime of every block, in the order of the allocations.

    >>> find_lifetimes([("alloc", 7), ("alloc", 9), ("free_requested", 7)])
    {0: 2, 1: None}
    """
    lifetimes: dict[int, int | None] = {}
    alive: dict[int, int] = {}
    for position, (action, address) in enumerate(events):
        if action == "alloc":
            alive[address] = position
            lifetimes[position] = None
        elif action == "free_requested" and address in alive:
            lifetimes[alive.pop(address)] = position
    return lifetimes


def alive_after(lifetimes: Lifetimes, position: int) -> list[int]:
    """Return the positions of the allocations of the blocks alive after an event."""
    return [
        begin
        for begin, end in lifetimes.items()
        if begin <= position and (end is None or end > position)
    ]


def bytes_alive(lifetimes: Lifetimes, sizes: Sequence[int]) -> list[int]:
    """Return the bytes alive before the first event, then after each event with its ``sizes``."""
    changes = [0] * (len(sizes) + 1)
    for begin, end in lifetimes.items():
        changes[begin + 1] += sizes[begin]
        if end is not None:
            changes[end + 1] -= sizes[begin]
    return list(accumulate(changes))
