"""The moment of a peak and what was alive then, from the allocator's own history.

The history is the list of events that ``torch.cuda.memory._snapshot()`` gives for a device. Only
the bytes that were requested are in it, so the moment is that of most requested bytes.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from harness.dry_run.dry_run_report import Category, Frame, Group, Moment

MOST_GROUPS = 30
BACKWARD = "backward pass (thread of autograd, without Python)"
COMPILED_BACKWARD = "backward pass (Python in a thread of autograd)"
AUTOTUNER = "autotuner"
_AUTOTUNERS = ("/_inductor/runtime/benchmarking.py", "/select_algorithm.py", "/triton/testing.py")
_AUTOGRAD_FUNCTION = "torch/autograd/function.py"


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
    allocation: int
    address: int
    size: int
    event: TraceEvent
    freed_at: int | None = None
    freed_by: TraceEvent | None = None


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

    def peak(self) -> Moment | None:
        """Return the first moment at which most bytes were requested; None without events."""
        now = most = 0
        at = None
        sizes: dict[int, int] = {}
        for index, event in enumerate(self.events):
            if event["action"] == "alloc":
                sizes[event["addr"]] = event["size"]
                now += event["size"]
                if now > most:
                    most, at = now, index
            elif event["action"] == "free_requested":
                now -= sizes.pop(event["addr"], 0)
        return None if at is None else self.moment(at)

    def out_of_memory(self) -> list[Moment]:
        """Return the moments at which memory ran out."""
        refused = [i for i, event in enumerate(self.events) if event["action"] == "oom"]
        return [self.moment(index) for index in refused]

    def moment(self, index: int) -> Moment:
        """Return what was alive just after an event."""
        alive, allocation = self._alive(index)
        owners = self._owners(alive, allocation)
        refused = self.events[index]["action"] == "oom"
        categories: dict[Category, int] = defaultdict(int)
        groups: dict[tuple[str, Category], list[int]] = defaultdict(list)
        for block in alive:
            category = owners.get(block.address) or self._kind(block, refused=refused)
            categories[category] += block.size
            groups[self.place(block.event), category].append(block.size)
        largest = sorted(groups.items(), key=lambda item: -sum(item[1]))[:MOST_GROUPS]
        event = self.events[index]
        return Moment(
            requested_bytes=sum(categories.values()),
            allocation=allocation,
            seconds=(event["time_us"] - self.events[0]["time_us"]) / 1e6,
            step=bisect_left(self.steps, allocation),
            stack=self.stack(event),
            categories=dict(sorted(categories.items(), key=lambda item: -item[1])),
            groups=tuple(
                Group(place=p, category=c, requested_bytes=sum(sizes), blocks=len(sizes))
                for (p, c), sizes in largest
            ),
        )

    def _alive(self, index: int) -> tuple[list[_Block], int]:
        """Return the blocks alive after an event, each with its end, and the allocations so far."""
        alive: dict[int, _Block] = {}
        here: list[_Block] = []
        allocations = allocations_here = 0
        for position, event in enumerate(self.events):
            if event["action"] == "alloc":
                allocations += 1
                address = event["addr"]
                alive[address] = _Block(
                    allocation=allocations, address=address, size=event["size"], event=event
                )
            elif event["action"] == "free_requested":
                gone = alive.pop(event["addr"], None)
                if gone is not None:
                    gone.freed_at, gone.freed_by = allocations, event
            if position == index:
                here, allocations_here = list(alive.values()), allocations
        return here, allocations_here

    def _owners(self, alive: Sequence[_Block], allocation: int) -> dict[int, Category]:
        """Return the categories of blocks that an optimizer step saw, before or after."""
        place = bisect_left([mark.allocations for mark in self.marks], allocation)
        owners: dict[int, Category] = {}
        for mark in self.marks[max(0, place - 2) : place + 3]:
            for block in alive:
                lived = block.allocation <= mark.allocations and (
                    block.freed_at is None or block.freed_at >= mark.allocations
                )
                if lived and block.address in mark.owners:
                    owners[block.address] = mark.owners[block.address]
        return owners

    def _kind(self, block: _Block, *, refused: bool) -> Category:
        """Return the category of a block that no optimizer knows."""
        lasts = block.freed_at is None
        if block.size == self.workspace_bytes and (
            lasts or block.freed_at == block.allocation  # newer versions free it after each matmul
        ):
            return "workspace"
        if not block.event["frames"]:
            return "other"
        if block.freed_by is not None and not block.freed_by["frames"]:
            return "activation"
        if _in_backward(block.event):
            return "other"
        if block.freed_by is not None and _in_backward(block.freed_by):
            return "activation"
        in_forward = any(frame["name"] == "forward" for frame in block.event["frames"])
        return "forward" if refused and in_forward else "other"

    def stack(self, event: TraceEvent) -> tuple[Frame, ...]:
        """Return the frames of the user's code, innermost first."""
        frames = [frame for frame in event["frames"] if not self.own(frame["filename"])]
        return tuple(
            Frame(file=frame["filename"], line=frame["line"], function=frame["name"])
            for frame in frames
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
    last = event["frames"][-1]["filename"]
    return last.endswith(_AUTOGRAD_FUNCTION)
