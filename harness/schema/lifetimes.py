"""Lifetimes of blocks in an event log of PyTorch's CUDA allocator.

The process of a dry run also imports this module, so the module uses only the standard library.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

Lifetimes = Mapping[int, int | None]
"""Map from the position of each allocation event to that of the block's free event, or to None."""


def find_lifetimes(events: Iterable[tuple[str, int]]) -> Lifetimes:
    """Return the lifetime of every block, in order of allocation.

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
    """Return the positions of the allocation events whose blocks are alive after ``position``."""
    return [
        begin
        for begin, end in lifetimes.items()
        if begin <= position and (end is None or end > position)
    ]


def bytes_alive(lifetimes: Lifetimes, sizes: Sequence[int]) -> list[int]:
    """Return the live bytes before the first event and after each event."""
    changes = [0] * (len(sizes) + 1)
    for begin, end in lifetimes.items():
        changes[begin + 1] += sizes[begin]
        if end is not None:
            changes[end + 1] -= sizes[begin]
    return list(accumulate(changes))
