"""The moment of a peak and what was alive then, from the allocator's own history.

The history is the list of events that ``torch.cuda.memory._snapshot()`` gives for a device. Only
the bytes that were requested are in it, so the moment is that of most requested bytes.
"""

import functools
import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypedDict

from harness.dry_run.dry_run_report import Category, Frame, Group, Moment
from harness.snapshots.lifetimes import Block, bytes_alive, find_blocks

MOST_GROUPS = 30
BACKWARD = "backward pass (thread of autograd, without Python)"
COMPILED_BACKWARD = "backward pass (Python in a thread of autograd)"
AUTOTUNER = "autotuner"
_AUTOTUNERS = ("/_inductor/runtime/benchmarking.py", "/select_algorithm.py", "/triton/testing.py")


class TraceFrame(TypedDict):
    """One frame of an event's stack."""

    filename: str
    line: int
    name: str


class TraceEvent(TypedDict, total=False):
    """One event of the history, as PyTorch writes it."""

    action: str
    addr: int
    size: int
    time_us: int
    frames: list[TraceFrame]


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Known contents of some addresses after a number of allocations."""

    allocations: int
    owners: Mapping[int, Category]


@dataclass(frozen=True, kw_only=True)
class History:
    """The events of one device, with what is known about owners and steps."""

    events: Sequence[TraceEvent]
    marks: Sequence[Mark]
    steps: Sequence[int]
    """The number of allocations at the end of each optimizer step."""
    workspace_bytes: int | None
    """Of cuBLAS; None where it is not known."""
    own: Callable[[str], bool]

    @functools.cached_property
    def _blocks(self) -> list[Block]:
        """Every block, in the order of the allocations."""
        return find_blocks((e["action"], e.get("addr", 0), e["size"]) for e in self.events)

    @functools.cached_property
    def _allocations(self) -> list[int]:
        """The number of allocations by each event."""
        return list(accumulate(int(event["action"] == "alloc") for event in self.events))

    def peak(self) -> Moment | None:
        """Return the first moment at which most bytes were requested; None without events."""
        alive = bytes_alive(self._blocks, len(self.events))
        position = alive.index(max(alive)) - 1
        return self.moment(position) if position >= 0 else None

    def out_of_memory(self) -> list[Moment]:
        """Return the moments at which memory ran out."""
        return [self.moment(i) for i, event in enumerate(self.events) if event["action"] == "oom"]

    def moment(self, position: int) -> Moment:
        """Return what was alive just after an event."""
        event = self.events[position]
        allocation = self._allocations[position]
        alive = [block for block in self._blocks if block.is_alive_after(position)]
        owners = self._owners(alive, allocation)
        categories: Counter[Category] = Counter()
        alike: defaultdict[tuple[str, Category], list[int]] = defaultdict(list)
        for block in alive:
            category = owners.get(block.address) or self._kind(
                block, refused=event["action"] == "oom"
            )
            categories[category] += block.size_bytes
            alike[self.place(self.events[block.begin]), category].append(block.size_bytes)
        largest = sorted(alike.items(), key=lambda group: -sum(group[1]))
        return Moment(
            requested_bytes=categories.total(),
            allocation=allocation,
            seconds=(event["time_us"] - self.events[0]["time_us"]) / 1e6,
            step=bisect_left(self.steps, allocation),
            stack=self.stack(event),
            categories=dict(categories.most_common()),
            groups=tuple(
                Group(place=place, category=kind, requested_bytes=sum(sizes), blocks=len(sizes))
                for (place, kind), sizes in largest[:MOST_GROUPS]
            ),
        )

    def _freed_at(self, block: Block) -> float:
        """Return the number of allocations by the event that frees a block; infinity without."""
        return math.inf if block.end is None else self._allocations[block.end]

    def _owners(self, alive: Sequence[Block], allocation: int) -> dict[int, Category]:
        """Return the categories of blocks that an optimizer step saw, before or after."""
        place = bisect_left([mark.allocations for mark in self.marks], allocation)
        owners: dict[int, Category] = {}
        for mark in self.marks[max(0, place - 2) : place + 3]:
            for block in alive:
                begun = self._allocations[block.begin]
                lived = begun <= mark.allocations <= self._freed_at(block)
                if lived and block.address in mark.owners:
                    owners[block.address] = mark.owners[block.address]
        return owners

    def _kind(self, block: Block, *, refused: bool) -> Category:
        """Return the category of a block that no optimizer knows."""
        allocated = self.events[block.begin]
        freed_by = None if block.end is None else self.events[block.end]
        # Newer versions free the workspace after each matmul.
        until = (math.inf, self._allocations[block.begin])
        if block.size_bytes == self.workspace_bytes and self._freed_at(block) in until:
            return "workspace"
        if not allocated["frames"]:
            return "other"
        if freed_by is not None and not freed_by["frames"]:
            return "activation"
        if _in_backward(allocated):
            return "other"
        if freed_by is not None and _in_backward(freed_by):
            return "activation"
        in_forward = any(frame["name"] == "forward" for frame in allocated["frames"])
        return "forward" if refused and in_forward else "other"

    def stack(self, event: TraceEvent) -> tuple[Frame, ...]:
        """Return the frames of the user's code, innermost first."""
        return tuple(
            Frame(file=frame["filename"], line=frame["line"], function=frame["name"])
            for frame in event["frames"]
            if not self.own(frame["filename"])
        )

    def place(self, event: TraceEvent) -> str:
        """Return the innermost line of the user's code, or what is known without one."""
        if not event["frames"]:
            return BACKWARD
        stack = self.stack(event)
        if stack:
            place = str(stack[0])
        elif _in_backward(event):
            place = COMPILED_BACKWARD
        else:
            place = event["frames"][0]["filename"]
        timed = any(frame["filename"].endswith(_AUTOTUNERS) for frame in event["frames"])
        return f"{AUTOTUNER}, for {place}" if timed else place


def _in_backward(event: TraceEvent) -> bool:
    """Return whether a thread of autograd called Python: a function's backward, compiled code."""
    return event["frames"][-1]["filename"].endswith("torch/autograd/function.py")
