"""Computes the live bytes at the end of each step, to find growth."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from harness.dry_runs.call_sites import CallSite
from harness.schema.block_categories import Caller
from harness.schema.growth import Growth, series_growth
from harness.schema.kept_by_line import KeptByLine

_BLOCK_BYTES = 512
"""The allocator rounds the size of each block up to a multiple of this number of bytes."""


@dataclass(slots=True, eq=False)
class HistoryBlock:
    """A recorded block; ``begin`` and ``end`` are positions in the list of allocations and frees.

    The code ``freed_by`` freed the block, after ``freed`` allocations.
    """

    address: int
    size: int
    begin: int
    allocation: int
    step: int
    site: CallSite
    end: int | None = None
    freed: int | None = None
    freed_by: Caller | None = None


class StepEnds:
    """Sums up the rounded sizes of live blocks at each step's end, in total and by line of code."""

    def __init__(self) -> None:
        self._alive_bytes = self._allocated_bytes = 0
        self._ends_bytes: list[int] = []
        self._steps_bytes: list[int] = []
        """Bytes that each step allocated."""
        self._floor_bytes: int | None = None
        self._kept = KeptByLine()
        self._freed: list[HistoryBlock] = []
        """Blocks that outlived the end of a step and were freed after the last step's end."""

    def allocate(self, block: HistoryBlock) -> None:
        """Add an allocated block."""
        size = _rounded(block.size)
        self._alive_bytes += size
        self._allocated_bytes += size

    def free(self, block: HistoryBlock) -> None:
        """Subtract a block that was freed."""
        self._alive_bytes -= _rounded(block.size)
        if block.step < len(self._ends_bytes):
            self._freed.append(block)

    def look(self) -> None:
        """Update the minimum of live bytes in the second step; call this after each event."""
        if len(self._ends_bytes) == 1:
            floor = self._floor_bytes
            alive = self._alive_bytes
            self._floor_bytes = alive if floor is None else min(floor, alive)

    def end_step(self) -> None:
        """Record a step's end; assign to the step all blocks freed since the previous end."""
        for block in self._freed:
            self._keep(block, len(self._ends_bytes))
        self._freed.clear()
        self._ends_bytes.append(self._alive_bytes)
        self._steps_bytes.append(self._allocated_bytes)
        self._allocated_bytes = 0

    def steps_grow(self) -> bool:
        """Return whether the allocated bytes grow from step to step, ignoring the first step."""
        return series_growth(self._steps_bytes[1:], _BLOCK_BYTES).kind == "leak"

    def growth(self, alive: Iterable[HistoryBlock], begins: Collection[int]) -> Growth:
        """Return the growth of memory over the steps; call this after the last event.

        Args:
            alive: blocks that are still alive.
            begins: index of the first step of each optimizer, counted from 0.
        """
        for block in (*alive, *self._freed):  # no step has freed them
            self._keep(block, None)
        ends, floor = self._ends_bytes, self._floor_bytes
        if floor is None:
            floor = ends[1] if len(ends) > 1 else 0
        return self._kept.growth(ends, self._steps_bytes, floor, begins)

    def _keep(self, block: HistoryBlock, last: int | None) -> None:
        size = _rounded(block.size)
        self._kept.add(block.site.place, block.begin, size, block.step, last)


def _rounded(size: int) -> int:
    return -(-size // _BLOCK_BYTES) * _BLOCK_BYTES
