"""Finds the line of code that allocated or freed a block, from an allocator event's stack."""

from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import TypedDict

from harness.dry_runs.dry_run_report import Frame
from harness.schema.block_categories import Caller

BACKWARD = "backward pass (thread of autograd, without Python)"
COMPILED_BACKWARD = "backward pass (Python in a thread of autograd)"
AUTOTUNER = "autotuner"
_AUTOTUNERS = ("/_inductor/runtime/benchmarking.py", "/select_algorithm.py", "/triton/testing.py")
EDGES = ("", "saving", "loading")
_SAVING = frozenset({"save", "state_dict", "save_pretrained", "save_checkpoint", "save_state"})
_LOADING = frozenset(
    {"load", "load_file", "load_state_dict", "from_pretrained", "load_checkpoint", "load_state"}
)
_COLLECTIVES = "torch/distributed/distributed_c10d.py"
_CONTEXT_BYTES, _FRAME_BYTES = 160, 16
"""Bytes that PyTorch stores for an event's stack, and for each frame of the stack. PyTorch stores
the frames in a vector whose capacity doubles (measured on torch 2.11 to 2.15)."""
ENTRY_BYTES = 168
"""Size of an event without its stack, in bytes; up to torch 2.14, the size is 104 bytes."""


class HistoryFrame(TypedDict):
    """One frame of an allocator event's stack."""

    filename: str
    line: int
    name: str


class HistoryEvent(TypedDict, total=False):
    """One event of PyTorch's allocator history, with PyTorch's own keys."""

    action: str
    addr: int
    size: int
    time_us: int
    frames: list[HistoryFrame]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CallSite:
    """A call stack of an allocator event, and facts about the stack.

    Attributes:
        stack: frames of the user's code, innermost first.
        place: innermost line of the user's code, or a description if there is no such line.
        edge: index into ``EDGES``; 1 while the script saves a checkpoint, 2 while it loads a
            checkpoint, else 0.
        context_bytes: host memory that PyTorch uses for the stack, in bytes.
    """

    caller: Caller
    stack: tuple[Frame, ...]
    place: str
    in_forward: bool
    edge: int
    context_bytes: int


_AS_KEY: Callable[[HistoryFrame], tuple[str, int, str]] = itemgetter("filename", "line", "name")


class Sites:
    """Cache of call sites; events with equal stacks share one ``CallSite``."""

    def __init__(self, own: Callable[[str], bool]) -> None:
        self._own = own
        self._is_own: dict[str, bool] = {}
        self._sites: dict[tuple[tuple[str, int, str], ...], CallSite] = {}

    def of(self, event: HistoryEvent) -> CallSite:
        """Return the call site of an event."""
        key = tuple(map(_AS_KEY, event["frames"]))
        site = self._sites.get(key)
        if site is None:
            site = self._sites[key] = self._site(event)
        return site

    def _site(self, event: HistoryEvent) -> CallSite:
        frames = event["frames"]
        files = [frame["filename"] for frame in frames]
        names = {frame["name"] for frame in frames}
        stack = tuple(
            Frame(file=frame["filename"], line=frame["line"], function=frame["name"])
            for frame in frames
            if not self._owns(frame["filename"])
        )
        caller = caller_of(event)
        return CallSite(
            caller=caller,
            stack=stack,
            place=_place(files, stack, in_backward=caller.in_backward),
            in_forward="forward" in names,
            edge=1 if not _SAVING.isdisjoint(names) else 2 * (not _LOADING.isdisjoint(names)),
            context_bytes=stack_bytes(event),
        )

    def _owns(self, file: str) -> bool:
        if file not in self._is_own:
            self._is_own[file] = self._own(file)
        return self._is_own[file]


_THREAD = Caller(is_thread=True, in_backward=False)


def caller_of(event: HistoryEvent) -> Caller:
    """Return facts about the code that allocated or freed the block of an event."""
    frames = event["frames"]
    if not frames:
        return _THREAD
    return Caller(
        is_thread=False,
        in_backward=frames[-1]["filename"].endswith("torch/autograd/function.py"),
        is_collective=frames[0]["filename"].endswith(_COLLECTIVES),
    )


def _place(files: list[str], stack: tuple[Frame, ...], *, in_backward: bool) -> str:
    if not files:
        return BACKWARD
    place = str(stack[0]) if stack else COMPILED_BACKWARD if in_backward else files[0]
    timed = any(file.endswith(_AUTOTUNERS) for file in files)
    return f"{AUTOTUNER}, for {place}" if timed else place


def stack_bytes(event: HistoryEvent) -> int:
    """Return the bytes that PyTorch stores for the stack of an event."""
    return _CONTEXT_BYTES + _FRAME_BYTES * capacity(len(event["frames"]))


def capacity(count: int) -> int:
    """Return the capacity of a C++ vector that has grown to ``count`` entries."""
    return 1 << (count - 1).bit_length() if count else 0
