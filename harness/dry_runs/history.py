"""Finds the peak, and the live blocks at the peak, in the history of PyTorch's allocator.

The events of ``torch.cuda.memory._snapshot()`` are processed in batches and then dropped. An event
contains only requested bytes, so this module finds the peak of requested bytes.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from harness.dry_runs.allocation_stream import AllocationStream
from harness.dry_runs.call_sites import (
    EDGES,
    CallSite,
    HistoryEvent,
    Sites,
    caller_of,
    stack_bytes,
)
from harness.dry_runs.dry_run_report import Moment, PlaceGroup
from harness.dry_runs.marks import Mark, kept, owners_at, window
from harness.dry_runs.step_ends import HistoryBlock, StepEnds
from harness.schema.block_categories import BlockCategory, category_of
from harness.schema.growth import Growth

MOST_GROUPS = 30
NOT_KEPT = "some events of the allocator were not kept"
_OBJECT_BYTES = 400
"""Approximate host memory for the Python objects of one block, in bytes."""


@dataclass(slots=True, eq=False)
class _Instant:
    """The live blocks at an event; later marks and events may add their owners and frees."""

    event: HistoryEvent
    site: CallSite
    position: int
    allocation: int
    alive: Sequence[HistoryBlock] = ()
    marks: list[Mark] = field(default_factory=list)


@dataclass
class _Phases:
    """Start and peak of each phase; an optimizer step, mode change, save or load starts a phase."""

    begins: "array[int]" = field(default_factory=lambda: array("q"))
    most: "array[int]" = field(default_factory=lambda: array("q"))
    edges: "array[int]" = field(default_factory=lambda: array("b"))

    def add(self, allocation: int, alive: int, *, edge: int, begins: bool) -> None:
        if begins or edge != self.edges[-1]:
            self.begins.append(allocation)
            self.most.append(alive)
            self.edges.append(edge)
        elif alive > self.most[-1]:
            self.most[-1] = alive


class History:
    """Computes the peak, the growth and the phases of one device from the allocator's events.

    Args:
        workspace_bytes: size of cuBLAS's workspace; None if it is unknown.
        own: function that returns whether a file belongs to PyTorch, Python or the harness.
        stream: object that writes each allocation to a file.
    """

    def __init__(
        self,
        *,
        workspace_bytes: int | None,
        own: Callable[[str], bool],
        stream: AllocationStream | None = None,
    ) -> None:
        self.workspace_bytes = workspace_bytes
        self._own = own
        self._stream = stream
        self._live: dict[int, HistoryBlock] = {}
        self._bytes = self.counted = self._allocations = 0
        self._first_us: int | None = None
        self._best_bytes = 0
        self._best: _Instant | None = None
        self._refused: list[_Instant] = []
        self._marks: list[Mark] = []
        self._steps = array("q")
        """The number of allocations at the end of each optimizer step."""
        self._modes: list[tuple[int, bool]] = []
        self._ends = StepEnds()
        self._phases = _Phases()
        self._works = Counter[int]()
        self.stack_bytes = 0
        """Bytes of the stack traces that PyTorch stored for all events so far."""
        self.lost = False
        """True if PyTorch dropped some events, so that growth and phases are unknown."""

    def live_bytes(self) -> int:
        """Return the host bytes that stack traces and Python objects of live blocks use."""
        sites = (block.site.context_bytes for block in self._live.values())
        return sum(sites) + _OBJECT_BYTES * len(self._live)

    def fold(
        self,
        events: Sequence[HistoryEvent],
        *,
        marks: Sequence[Mark] = (),
        steps: Sequence[tuple[int, int]] = (),
        modes: Sequence[tuple[int, bool]] = (),
        borders: Sequence[int] = (),
    ) -> list[tuple[int, int]]:
        """Process new events; return the event count and the stack bytes at each step's end.

        Args:
            events: new events, the oldest first.
            marks: known owners of blocks at some moments since the last call.
            steps: for each new optimizer step, the number of allocations and of frees at its end.
            modes: for each change of the training mode, the number of allocations and the new mode.
            borders: allocation counts that later calls of ``most_between`` may use.
        """
        sites = Sites(self._own)
        seen = list(self._live.values())
        best, refused = None, len(self._refused)
        begins_at = {self._allocations, *(count for count, _ in (*steps, *modes)), *borders}
        waiting, ended = [*reversed(steps)], list[tuple[int, int]]()
        stacks = 0
        for position, event in enumerate(events):
            while waiting and sum(waiting[-1]) <= self.counted:
                self._end_step(waiting.pop()[0])
                ended.append((position, stacks))
            action = event["action"]
            if action == "alloc":
                stacks += stack_bytes(event)
                block = self._allocate(event, sites)
                seen.append(block)
                begins = block.allocation - 1 in begins_at
                self._phases.add(
                    block.allocation - 1, self._bytes, edge=block.site.edge, begins=begins
                )
                if self._bytes > self._best_bytes:
                    self._best_bytes = self._bytes
                    best = event, block
            elif action == "free_requested":
                stacks += stack_bytes(event)
                self._free(event)
            elif action == "oom":
                self._refused.append(self._instant(event, sites, [*self._live.values()]))
            self._ends.look()
        while waiting and sum(waiting[-1]) <= self.counted:
            self._end_step(waiting.pop()[0])
            ended.append((len(events), stacks))
        if self._first_us is None and events:
            self._first_us = events[0]["time_us"]
        if best is not None:
            event, block = best
            self._best = _Instant(event, block.site, block.begin, block.allocation)
            self._best.alive = [one for one in seen if _lived(one, block.begin)]
        if self._stream is not None:
            self._stream.write()
        self.lost |= bool(waiting)
        self._modes += modes
        self.stack_bytes += stacks
        self._look_at(marks, self._refused[refused:], is_best=best is not None)
        return ended

    def _allocate(self, event: HistoryEvent, sites: Sites) -> HistoryBlock:
        size = event["size"]
        block = HistoryBlock(
            address=event["addr"],
            size=size,
            begin=self.counted,
            allocation=self._allocations + 1,
            step=len(self._steps),
            site=sites.of(event),
        )
        if self._stream is not None:
            self._stream.add(size, block.site)
        self._live[block.address] = block
        self._allocations += 1
        self.counted += 1
        self._bytes += size
        self._ends.allocate(block)
        return block

    def _free(self, event: HistoryEvent) -> None:
        block = self._live.pop(event["addr"], None)
        if block is not None:
            block.end, block.freed = self.counted, self._allocations
            block.freed_by = caller_of(event)
            self._bytes -= block.size
            self._ends.free(block)
            if block.freed_by.is_collective and not block.site.caller.is_collective:
                self._works[len(self._steps)] += block.size
        self.counted += 1

    def _end_step(self, allocations: int) -> None:
        self._steps.append(allocations)
        self._ends.end_step()

    def _instant(
        self, event: HistoryEvent, sites: Sites, alive: Sequence[HistoryBlock]
    ) -> _Instant:
        return _Instant(event, sites.of(event), self.counted, self._allocations, alive)

    def _look_at(self, marks: Sequence[Mark], new: Sequence[_Instant], *, is_best: bool) -> None:
        """Keep the marks (known owners) near each moment, and the last marks for later moments."""
        known = [*self._marks, *marks]
        for instant in self._instants():
            is_new = instant in new or (is_best and instant is self._best)
            instant.marks = window(
                known if is_new else [*instant.marks, *marks], instant.allocation
            )
        later = bisect_left([mark.allocations for mark in known], self._allocations)
        self._marks = kept(known, range(max(0, later - 2), len(known)))

    def _instants(self) -> list[_Instant]:
        return [*([] if self._best is None else [self._best]), *self._refused]

    def marks(self) -> list[Mark]:
        """Return all stored marks (known block owners), ordered by number of allocations."""
        around = [mark for instant in self._instants() for mark in instant.marks]
        found = {id(mark): mark for mark in (*around, *self._marks)}
        return sorted(found.values(), key=lambda mark: mark.allocations)

    def peak(self) -> Moment | None:
        """Return the first moment with the highest requested bytes; None if there was no event."""
        return None if self._best is None else self._moment(self._best)

    def out_of_memory(self) -> list[Moment]:
        """Return the moments at which GPU memory ran out."""
        return [self._moment(instant) for instant in self._refused]

    def kept_by_works(self) -> int:
        """Return the maximum, over all steps, of the bytes that only collectives kept alive."""
        return max(self._works.values(), default=0)

    def growth(self, begins: Collection[int] = ()) -> Growth:
        """Return the growth of memory over the optimizer steps; call this after the last event.

        Args:
            begins: index of the first step of each optimizer, counted from 0.
        """
        if self.lost:
            return Growth(kind="unknown", reason=NOT_KEPT)
        return self._ends.growth(self._live.values(), begins)

    def steps_grow(self) -> bool:
        """Return whether later steps allocate more than earlier steps, e.g. if batches grow."""
        return not self.lost and self._ends.steps_grow()

    def phases(self) -> dict[str, int]:
        """Return the peak of requested bytes for each phase, such as training or evaluation.

        Return an empty dict if events are missing, because the phases are then unknown.
        """
        if self.lost or not self._phases.begins:
            return {}
        runs, steps = self._phases, self._steps
        names = ["training"] * len(runs.begins)

        def name(first: int, last: int, phase: str) -> None:
            span = slice(bisect_left(runs.begins, first), bisect_left(runs.begins, last))
            names[span] = [phase] * len(names[span])

        def name_step(first: int, phase: str) -> None:
            if (step := bisect_right(steps, first)) < len(steps):
                name(first, steps[step], f"first step after {phase}")

        for (begin, mode), (end, next_mode) in pairwise(self._modes):
            step = bisect_right(steps, begin)
            if next_mode and not mode and step and step == bisect_left(steps, end):
                name(begin, end, "evaluation")
                name_step(end, "evaluation")
        ends = (*runs.begins[1:], self._allocations)
        for number, (edge, end) in enumerate(zip(runs.edges, ends, strict=True)):
            if edge:
                name_step(end, EDGES[edge])
                names[number] = EDGES[edge]
        most: dict[str, int] = {}
        for phase, size in zip(names, runs.most, strict=True):
            most[phase] = max(most.get(phase, 0), size)
        return most

    def most_between(self, first: int, last: int) -> int:
        """Return the peak of requested bytes from allocation count ``first`` to ``last``."""
        if self.lost:
            return 0
        begins, most = self._phases.begins, self._phases.most
        return max(most[bisect_left(begins, first) : bisect_left(begins, last)], default=0)

    def _moment(self, instant: _Instant) -> Moment:
        """Return the state just after an event, with the live blocks by category and place."""
        marks = ((mark.allocations, mark.owners) for mark in instant.marks)
        owners = owners_at(instant.alive, marks)
        categories: Counter[BlockCategory] = Counter()
        alike: defaultdict[tuple[str, BlockCategory], list[int]] = defaultdict(list)
        for block in instant.alive:
            category = owners.get(block) or self._kind(block)
            categories[category] += block.size
            alike[block.site.place, category].append(block.size)
        largest = sorted(alike.items(), key=lambda group: -sum(group[1]))
        return Moment(
            requested_bytes=categories.total(),
            allocation=instant.allocation,
            seconds=(instant.event["time_us"] - (self._first_us or 0)) / 1e6,
            step=bisect_left(self._steps, instant.allocation),
            stack=instant.site.stack,
            categories=dict(categories.most_common()),
            groups=tuple(
                PlaceGroup(
                    place=place, category=kind, requested_bytes=sum(sizes), blocks=len(sizes)
                )
                for (place, kind), sizes in largest[:MOST_GROUPS]
            ),
        )

    def _kind(self, block: HistoryBlock) -> BlockCategory:
        """Return the category of a block without a known owner."""
        # Newer versions free the workspace after each matmul.
        is_alone = block.freed_by is None or block.freed == block.allocation
        return category_of(
            block.site.caller,
            block.freed_by,
            is_workspace=block.size == self.workspace_bytes and is_alone,
            in_forward=bool(self._refused) and block.site.in_forward,
        )


def _lived(block: HistoryBlock, position: int) -> bool:
    return block.begin <= position and (block.end is None or block.end > position)
