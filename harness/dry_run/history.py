"""The moment of a peak and what was alive then, from the allocator's own history.

The history is the list of events that ``torch.cuda.memory._snapshot()`` gives for a device. Only
the bytes that were requested are in it, so the moment is that of most requested bytes.
"""

import functools
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypedDict

from harness.dry_run.dry_run_report import Category, Frame, Group, Moment

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


@dataclass(kw_only=True)
class _Block:
    event: TraceEvent
    begin: int
    """The number of its event; ``end`` is that of the event that frees it."""
    allocation: int
    end: int | None = None
    freed_at: int | None = None
    """The number of allocations by then."""

    @property
    def size(self) -> int:
        return self.event["size"]


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
    def _blocks(self) -> list[_Block]:
        """Every block, in the order of the allocations."""
        blocks: list[_Block] = []
        alive: dict[int, _Block] = {}
        for number, event in enumerate(self.events):
            if event["action"] == "alloc":
                block = _Block(event=event, begin=number, allocation=len(blocks) + 1)
                blocks.append(block)
                alive[event["addr"]] = block
            elif event["action"] == "free_requested" and event["addr"] in alive:
                block = alive.pop(event["addr"])
                block.end, block.freed_at = number, len(blocks)
        return blocks

    def peak(self) -> Moment | None:
        """Return the first moment at which most bytes were requested; None without events."""
        changes = [0] * len(self.events)
        for block in self._blocks:
            changes[block.begin] += block.size
            if block.end is not None:
                changes[block.end] -= block.size
        live = list(accumulate(changes))
        most = max(live, default=0)
        return self.moment(live.index(most)) if most else None

    def out_of_memory(self) -> list[Moment]:
        """Return the moments at which memory ran out."""
        return [self.moment(i) for i, event in enumerate(self.events) if event["action"] == "oom"]

    def moment(self, index: int) -> Moment:
        """Return what was alive just after an event."""
        event = self.events[index]
        earlier = [block for block in self._blocks if block.begin <= index]
        alive = [block for block in earlier if block.end is None or block.end > index]
        allocation = len(earlier)
        owners = self._owners(alive, allocation)
        categories: Counter[Category] = Counter()
        sizes: Counter[tuple[str, Category]] = Counter()
        blocks: Counter[tuple[str, Category]] = Counter()
        for block in alive:
            category = owners.get(block.event["addr"]) or self._kind(
                block, refused=event["action"] == "oom"
            )
            group = self.place(block.event), category
            categories[category] += block.size
            sizes[group] += block.size
            blocks[group] += 1
        return Moment(
            requested_bytes=categories.total(),
            allocation=allocation,
            seconds=(event["time_us"] - self.events[0]["time_us"]) / 1e6,
            step=bisect_left(self.steps, allocation),
            stack=self.stack(event),
            categories=dict(categories.most_common()),
            groups=tuple(
                Group(place=place, category=kind, requested_bytes=size, blocks=blocks[place, kind])
                for (place, kind), size in sizes.most_common(MOST_GROUPS)
            ),
        )

    def _owners(self, alive: Sequence[_Block], allocation: int) -> dict[int, Category]:
        """Return the categories of blocks that an optimizer step saw, before or after."""
        place = bisect_left([mark.allocations for mark in self.marks], allocation)
        owners: dict[int, Category] = {}
        for mark in self.marks[max(0, place - 2) : place + 3]:
            for block in alive:
                lived = block.allocation <= mark.allocations and (
                    block.freed_at is None or block.freed_at >= mark.allocations
                )
                if lived and block.event["addr"] in mark.owners:
                    owners[block.event["addr"]] = mark.owners[block.event["addr"]]
        return owners

    def _kind(self, block: _Block, *, refused: bool) -> Category:
        """Return the category of a block that no optimizer knows."""
        freed_by = None if block.end is None else self.events[block.end]
        # Newer versions free the workspace after each matmul.
        if block.size == self.workspace_bytes and block.freed_at in (None, block.allocation):
            return "workspace"
        if not block.event["frames"]:
            return "other"
        if freed_by is not None and not freed_by["frames"]:
            return "activation"
        if _in_backward(block.event):
            return "other"
        if freed_by is not None and _in_backward(freed_by):
            return "activation"
        in_forward = any(frame["name"] == "forward" for frame in block.event["frames"])
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
