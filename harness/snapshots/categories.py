"""Category of a block, derived from the frames that requested it and the time of the request.

A recording names no categories. Parameters are allocated by ``Module._apply``, optimizer state
and its temporaries within ``Optimizer.step``, activations under a ``forward``, gradients and
backward temporaries by the autograd thread, which has no Python frames.
"""

from bisect import bisect_right
from collections.abc import Sequence
from enum import Enum

from harness.plots.category_colours import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VIOLET
from harness.prediction.gpu.workspaces import LARGE_BYTES, SMALL_BYTES
from harness.snapshots.snapshot import Annotation
from harness.snapshots.trace_event import BEFORE, TraceEvent


class Category(Enum):
    """A category of blocks: its name and its colour; they are stacked in this order."""

    BEFORE = "before the recording", GREY
    PARAMETER = "parameters", BLUE
    BACKWARD = "backward pass (gradients and temporaries)", ORANGE
    OPTIMIZER = "optimizer state and its temporaries", PURPLE
    OTHER = "input data and other tensors", SKY
    FORWARD = "forward pass (activations)", GREEN
    WORKSPACE = "cuBLAS workspaces", VIOLET
    UNKNOWN = "unknown: recorded without Python stacks", GREY

    def __init__(self, words: str, colour: str) -> None:
        self.words = words
        self.colour = colour


_MOST_WORKSPACES = 4
_PARAMETER = ("_apply (module.py", "convert (module.py")
_OPTIMIZERS = ("adam", "adamw", "sgd", "rmsprop", "adagrad", "adafactor", "nadam", "radam", "lion")
_OPTIMIZER = ("_init_group (", *(f"step ({name}.py" for name in _OPTIMIZERS))
_OPTIMIZER_OF_YOURS = ("wrapper (optimizer.py",)
"""PyTorch's wrapper of every ``step``; the step's closure may run a forward and a backward pass."""
_COMPILED_BACKWARD = ("backward (runtime_wrappers.py", "_backward_impl (")
_BACKWARD = ("backward (_tensor.py", "_engine_run_backward (", *_COMPILED_BACKWARD)


class Categories:
    """Derives the categories of one device's events."""

    def __init__(self, events: Sequence[TraceEvent], steps: Sequence[Annotation]) -> None:
        self._has_stacks = any(event.stack.frames for event in events)
        edges = sorted((mark.time_us, mark.stage == "START") for mark in steps)
        workspaces = {SMALL_BYTES}
        allocated = sum(e.action == "alloc" and e.size_bytes == LARGE_BYTES for e in events)
        freed = any(e.action != "alloc" and e.size_bytes == LARGE_BYTES for e in events)
        if allocated <= _MOST_WORKSPACES and not freed:
            # 32 MiB is also the size of many a tensor; a workspace is kept to the end.
            workspaces.add(LARGE_BYTES)
        self._workspaces = frozenset(workspaces)
        self._edges = [time for time, _ in edges]
        self._starts = [is_start for _, is_start in edges]

    def of(self, event: TraceEvent) -> Category:
        """Return the category of the block that ``event`` allocates."""
        if event.stack is BEFORE:
            return Category.BEFORE
        if _has(event, _PARAMETER):
            return Category.PARAMETER
        if event.size_bytes in self._workspaces:
            return Category.WORKSPACE
        if _has(event, _OPTIMIZER) or (not event.stack.frames and self._in_optimizer(event)):
            return Category.OPTIMIZER
        if _has(event, _COMPILED_BACKWARD):
            return (
                Category.BACKWARD
            )  # a graph that torch.compile wrote; its function is called forward
        if _has(event, ("forward (",)):
            return Category.FORWARD
        if not event.stack.frames and self._has_stacks:
            return Category.BACKWARD
        if _has(event, _BACKWARD):
            return Category.BACKWARD
        if not self._has_stacks:
            return Category.UNKNOWN
        return Category.OPTIMIZER if _has(event, _OPTIMIZER_OF_YOURS) else Category.OTHER

    def _in_optimizer(self, event: TraceEvent) -> bool:
        if event.time_us is None:
            return False
        index = bisect_right(self._edges, event.time_us) - 1
        return index >= 0 and self._starts[index]


def _has(event: TraceEvent, beginnings: tuple[str, ...]) -> bool:
    return any(frame.startswith(beginnings) for frame in event.stack.frames)


def in_backward(event: TraceEvent) -> bool:
    """Return whether a thread of autograd called Python, as checkpointing does."""
    return bool(event.stack.frames) and event.stack.frames[-1].startswith("apply (function.py")


def module_of(event: TraceEvent) -> str:
    """Return the chain of modules whose ``forward`` ran, outermost first, as far as known."""
    if event.stack is BEFORE:
        return Category.BEFORE.words
    if _has(event, _BACKWARD) or not event.stack.modules:
        return "outside of a forward pass"
    return " > ".join(event.stack.modules)


def own_line(event: TraceEvent) -> str:
    """Return the user's line that asked, or what there is instead."""
    place, own = event.stack.place, event.stack.own
    if own is not None:
        return own
    return "no Python frame" if place is None else f"no line of yours ({place})"
