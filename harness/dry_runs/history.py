"""The moment of a peak and what was alive then, from the allocator's own history.

The history is the list of events that ``torch.cuda.memory._snapshot()`` gives for a device. Only
the bytes that were requested are in it, so the moment is that of most requested bytes.
"""

import functools
import itertools
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from harness.dry_runs.dry_run_report import BlockCategory, Frame, Group, Moment
from harness.schema.growth import Growth, find_growth
from harness.schema.lifetimes import Lifetimes, alive_after, bytes_alive, find_lifetimes

MOST_GROUPS = 30
NOT_KEPT = "the first events of the allocator were not kept"
BLOCK_BYTES = 512
"""The allocator rounds each request up to a multiple."""
_SAVING = frozenset({"save", "state_dict", "save_pretrained", "save_checkpoint", "save_state"})
BACKWARD = "backward pass (thread of autograd, without Python)"
COMPILED_BACKWARD = "backward pass (Python in a thread of autograd)"
AUTOTUNER = "autotuner"
_AUTOTUNERS = ("/_inductor/runtime/benchmarking.py", "/select_algorithm.py", "/triton/testing.py")


class HistoryFrame(TypedDict):
    """One frame of an event's stack."""

    filename: str
    line: int
    name: str


class HistoryEvent(TypedDict, total=False):
    """One event of the history, as PyTorch writes it."""

    action: str
    addr: int
    size: int
    time_us: int
    frames: list[HistoryFrame]


@dataclass(frozen=True, kw_only=True)
class Mark:
    """Known contents of some addresses after a number of allocations."""

    allocations: int
    owners: Mapping[int, BlockCategory]


@dataclass(frozen=True, kw_only=True)
class History:
    """The events of one device, with what is known about owners and steps."""

    events: Sequence[HistoryEvent]
    marks: Sequence[Mark]
    steps: Sequence[int]
    """The number of allocations at the end of each optimizer step."""
    ends: Sequence[int] = ()
    """The number of allocations and frees by then."""
    modes: Sequence[tuple[int, bool]] = ()
    """The number of allocations when a module was turned to training, or to evaluation."""
    workspace_bytes: int | None
    """Bytes of cuBLAS's workspace; None where they are not known."""
    own: Callable[[str], bool]

    @functools.cached_property
    def _lifetimes(self) -> Lifetimes:
        """Lifetimes of all blocks, by the positions of their events."""
        return find_lifetimes((event["action"], event.get("addr", 0)) for event in self.events)

    @functools.cached_property
    def _begins(self) -> list[int]:
        """Positions of the allocations."""
        return list(self._lifetimes)

    def _allocations(self, position: int) -> int:
        """Return the number of allocations by an event."""
        return bisect_right(self._begins, position)

    def peak(self) -> Moment | None:
        """Return the first moment at which most bytes were requested; None without events."""
        alive = bytes_alive(self._lifetimes, [event["size"] for event in self.events])
        position = alive.index(max(alive)) - 1
        return self.moment(position) if position >= 0 else None

    def kept_by_works(self) -> int:
        """Return most bytes that the collectives of one step freed, of what others allocated."""
        freed = Counter[int]()
        for begin, end in self._lifetimes.items():
            if end is not None and _by_collective(self.events[end]):
                step = bisect_left(self.steps, self._allocations(end))
                freed[step] += self.events[begin]["size"] * (not _by_collective(self.events[begin]))
        return max(freed.values(), default=0)

    @functools.cached_property
    def ends_in_events(self) -> list[int] | None:
        """The number of events by the end of each optimizer step; None if some were not kept."""
        done = (event["action"] in ("alloc", "free_requested") for event in self.events)
        positions = [position for position, counts in enumerate(done, 1) if counts]
        if self.ends and self.ends[-1] > len(positions):
            return None
        return [positions[end - 1] if end else 0 for end in self.ends]

    def growth(self) -> Growth:
        """Return how memory grows over the optimizer steps."""
        if (ends := self.ends_in_events) is None:
            return Growth(kind="unknown", reason=NOT_KEPT)
        return find_growth(
            self._lifetimes,
            [-(-event["size"] // BLOCK_BYTES) * BLOCK_BYTES for event in self.events],
            ends,
            lambda begin: self.place(self.events[begin]),
        )

    def phases(self) -> dict[str, int]:
        """Return most bytes requested in training, evaluation and saving, and in the step after.

        Nothing without the first events, because the number of each allocation is not known then.
        """
        if self.ends_in_events is None:
            return {}
        phase_of = ["training"] * len(self._begins)
        for (begin, mode), (end, next_mode) in itertools.pairwise(self.modes):
            step = bisect_right(self.steps, begin)
            is_evaluation = next_mode and not mode and step == bisect_left(self.steps, end)
            if is_evaluation and step:
                phase_of[begin:end] = ["evaluation"] * (end - begin)
                self._step_after(phase_of, end, "evaluation")
        for allocation, position in enumerate(self._begins):
            if any(frame["name"] in _SAVING for frame in self.events[position]["frames"]):
                self._step_after(phase_of, allocation + 1, "saving")
                phase_of[allocation] = "saving"
        alive = bytes_alive(self._lifetimes, [event["size"] for event in self.events])
        most: dict[str, int] = {}
        for phase, position in zip(phase_of, self._begins, strict=True):
            most[phase] = max(most.get(phase, 0), alive[position + 1])
        return most

    def _step_after(self, phase_of: list[str], allocation: int, phase: str) -> None:
        """Name the step that begins with an allocation the first one after a phase."""
        step = bisect_right(self.steps, allocation)
        if step < len(self.steps):
            names = [f"first step after {phase}"] * (self.steps[step] - allocation)
            phase_of[allocation : self.steps[step]] = names

    def most_between(self, first: int, last: int) -> int:
        """Return most bytes requested at the allocations after the first number, up to the last."""
        if last > len(self._begins):  # some events were not kept
            return 0
        alive = bytes_alive(self._lifetimes, [event["size"] for event in self.events])
        return max((alive[position + 1] for position in self._begins[first:last]), default=0)

    def out_of_memory(self) -> list[Moment]:
        """Return the moments at which memory ran out."""
        return [self.moment(i) for i, event in enumerate(self.events) if event["action"] == "oom"]

    def moment(self, position: int) -> Moment:
        """Return what was alive just after an event."""
        event = self.events[position]
        allocation = self._allocations(position)
        alive = alive_after(self._lifetimes, position)
        owners = self._owners(alive, allocation)
        categories: Counter[BlockCategory] = Counter()
        alike: defaultdict[tuple[str, BlockCategory], list[int]] = defaultdict(list)
        for begin in alive:
            block = self.events[begin]
            category = owners.get(block["addr"]) or self._kind(
                begin, refused=event["action"] == "oom"
            )
            categories[category] += block["size"]
            alike[self.place(block), category].append(block["size"])
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

    def _owners(self, alive: Sequence[int], allocation: int) -> dict[int, BlockCategory]:
        """Return the categories of blocks that an optimizer step saw, before or after."""
        place = bisect_left([mark.allocations for mark in self.marks], allocation)
        owners: dict[int, BlockCategory] = {}
        for mark in self.marks[max(0, place - 2) : place + 3]:
            for begin in alive:
                address, end = self.events[begin]["addr"], self._lifetimes[begin]
                lived = self._allocations(begin) <= mark.allocations and (
                    end is None or self._allocations(end) >= mark.allocations
                )
                if lived and address in mark.owners:
                    owners[address] = mark.owners[address]
        return owners

    def _kind(self, begin: int, *, refused: bool) -> BlockCategory:
        """Return the category of a block that no optimizer knows."""
        block, end = self.events[begin], self._lifetimes[begin]
        freed_by = None if end is None else self.events[end]
        # Newer versions free the workspace after each matmul.
        is_alone = end is None or self._allocations(end) == self._allocations(begin)
        if block["size"] == self.workspace_bytes and is_alone:
            return "workspace"
        if not block["frames"]:
            return "other"
        if freed_by is not None and not freed_by["frames"]:
            return "activation"
        if _in_backward(block):
            return "other"
        if freed_by is not None and _in_backward(freed_by):
            return "activation"
        in_forward = any(frame["name"] == "forward" for frame in block["frames"])
        return "forward" if refused and in_forward else "other"

    def stack(self, event: HistoryEvent) -> tuple[Frame, ...]:
        """Return the frames of the user's code, innermost first."""
        return tuple(
            Frame(file=frame["filename"], line=frame["line"], function=frame["name"])
            for frame in event["frames"]
            if not self.own(frame["filename"])
        )

    def place(self, event: HistoryEvent) -> str:
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


def _in_backward(event: HistoryEvent) -> bool:
    """Return whether a thread of autograd called Python: a function's backward, compiled code."""
    return event["frames"][-1]["filename"].endswith("torch/autograd/function.py")


def _by_collective(event: HistoryEvent) -> bool:
    frames = event["frames"]
    return bool(frames) and frames[0]["filename"].endswith("torch/distributed/distributed_c10d.py")
