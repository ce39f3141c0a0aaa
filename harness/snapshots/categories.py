"""Gives each block of a recording a category, such as parameter or activation.

The snapshot of a dry run names the categories of blocks. Without a dry run, the category is guessed
from the caller. For example, ``Optimizer.step`` allocates optimizer state, and a ``forward``
allocates activations. Autograd's thread, which has no Python frames, allocates gradients.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

from harness.dry_runs.marks import owners_at
from harness.prediction.gpu.workspaces import LARGE_BYTES, SMALL_BYTES
from harness.schema.block_categories import CATEGORY_WORDS, BlockCategory, Caller, category_of
from harness.snapshots.device_history import DeviceHistory
from harness.snapshots.snapshot import KnownOwners
from harness.snapshots.trace_event import BEFORE, TraceEvent

_MOST_WORKSPACES = 4
_PARAMETER = ("_apply (module.py", "convert (module.py")
_OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop", "adagrad", "adafactor", "nadam", "radam", "lion")
_OPTIMIZER = ("_init_group (", *(f"step ({name}.py" for name in _OPTIMIZERS))
_OPTIMIZER_OF_YOURS = ("wrapper (optimizer.py",)
"""Frame of PyTorch's wrapper of ``step``; a closure of ``step`` may run forward and backward."""
_COMPILED_BACKWARD = ("backward (runtime_wrappers.py", "_backward_impl (")
_BACKWARD = ("backward (_tensor.py", "_engine_run_backward (", *_COMPILED_BACKWARD)


CategoryOf = Callable[[int], BlockCategory]
"""Function that returns a block's category; the argument is an index of ``DeviceHistory.log``."""


def categories(history: DeviceHistory) -> CategoryOf:
    """Return the function that gives the category of each block in ``history``."""
    known = history.snapshot.owners
    return Guess(history).of if known is None or not known.marks else Owned(history, known).of


@dataclass(slots=True, eq=False)
class _Block:
    address: int
    allocation: int
    freed: int | None
    begin: int


class Owned:
    """Categories of blocks in the recording of a dry run, which names the owners of blocks."""

    def __init__(self, history: DeviceHistory, known: KnownOwners) -> None:
        self._history = history
        self._workspace_bytes = known.workspace_bytes
        self._failed = any(event.action == "oom" for event in history.events)
        changes = [event.action == "alloc" for event in history.log]
        before = known.allocations - sum(changes)
        numbers = self._numbers = [before + number for number in accumulate(changes)]
        blocks = (
            _Block(history.log[at].address, numbers[at], end and numbers[end], at)
            for at, end in history.lifetimes.items()
        )
        owned = owners_at(blocks, ((mark.allocations, mark.owners) for mark in known.marks))
        self._owners = {block.begin: owner for block, owner in owned.items() if _is_one(owner)}

    def of(self, begin: int) -> BlockCategory:
        """Return the category of the block whose allocation has index ``begin`` in the log."""
        if (owner := self._owners.get(begin)) is not None:
            return owner
        log, end = self._history.log, self._history.lifetimes[begin]
        if log[begin].stack is BEFORE:
            return "before"
        is_alone = end is None or self._numbers[end] == self._numbers[begin]
        return category_of(
            caller(log[begin]),
            None if end is None else caller(log[end]),
            is_workspace=log[begin].size_bytes == self._workspace_bytes and is_alone,
            in_forward=self._failed and in_forward(log[begin]),
        )


def _is_one(owner: object) -> bool:
    return isinstance(owner, str) and owner in CATEGORY_WORDS


class Guess:
    """Categories of blocks without recorded owners; guessed from their frames, times and sizes."""

    def __init__(self, history: DeviceHistory) -> None:
        events, self._log = history.events, history.log
        self._has_stacks = any(event.stack.frames for event in events)
        edges = sorted((mark.time_us, mark.stage == "START") for mark in history.steps)
        workspaces = {SMALL_BYTES}
        allocated = sum(e.action == "alloc" and e.size_bytes == LARGE_BYTES for e in events)
        freed = any(e.action != "alloc" and e.size_bytes == LARGE_BYTES for e in events)
        if allocated <= _MOST_WORKSPACES and not freed:
            # 32 MiB is also the size of many a tensor; a workspace is kept to the end.
            workspaces.add(LARGE_BYTES)
        self._workspaces = frozenset(workspaces)
        self._edges = [time for time, _ in edges]
        self._starts = [is_start for _, is_start in edges]

    def of(self, begin: int) -> BlockCategory:
        """Return the category of the block whose allocation has index ``begin`` in the log."""
        event = self._log[begin]
        if event.stack is BEFORE:
            return "before"
        if _has(event, _PARAMETER):
            return "parameter"
        if event.size_bytes in self._workspaces:
            return "workspace"
        if _has(event, _OPTIMIZER) or (not event.stack.frames and self._in_optimizer(event)):
            return "optimizer"
        if _has(event, _COMPILED_BACKWARD):
            return "backward"  # a graph that torch.compile wrote; its function is called forward
        if in_forward(event):
            return "forward"
        if not event.stack.frames and self._has_stacks:
            return "backward"
        if _has(event, _BACKWARD):
            return "backward"
        if not self._has_stacks:
            return "unknown"
        return "optimizer" if _has(event, _OPTIMIZER_OF_YOURS) else "other"

    def _in_optimizer(self, event: TraceEvent) -> bool:
        if event.time_us is None:
            return False
        index = bisect_right(self._edges, event.time_us) - 1
        return index >= 0 and self._starts[index]


def _has(event: TraceEvent, beginnings: tuple[str, ...]) -> bool:
    return any(frame.startswith(beginnings) for frame in event.stack.frames)


def caller(event: TraceEvent) -> Caller:
    """Return who made an allocation or a free: Python code, or a thread of autograd."""
    frames = event.stack.frames
    called = bool(frames) and frames[-1].startswith("apply (function.py")
    return Caller(is_thread=not frames, in_backward=called)


def in_forward(event: TraceEvent) -> bool:
    """Return whether a forward pass requested the memory of ``event``."""
    return _has(event, ("forward (",))


def module_of(event: TraceEvent) -> str:
    """Return the names of the modules whose ``forward`` ran, outermost first.

    If the request was made outside of a forward pass, return a description of the request.
    """
    if event.stack is BEFORE:
        return CATEGORY_WORDS["before"]
    if _has(event, _BACKWARD) or not event.stack.modules:
        return "outside of a forward pass"
    return " > ".join(event.stack.modules)
