"""Types for the entries of a device's trace, and for the segments at the end of the trace."""

import re
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from harness.schema.library_files import is_library
from harness.snapshots.module_names import module_name

ADDRESS_LIMIT = 1 << 62
SIZE_LIMIT = 1 << 44
Address = Annotated[int, msgspec.Meta(ge=0, lt=ADDRESS_LIMIT)]
Size = Annotated[int, msgspec.Meta(ge=0, lt=SIZE_LIMIT)]
TAKING = frozenset({"segment_alloc", "segment_map"})
GIVING = frozenset({"segment_free", "segment_unmap"})
SEGMENT_ACTIONS = TAKING | GIVING
ACTIONS = SEGMENT_ACTIONS | {
    "alloc", "free_requested", "free_completed", "oom", "snapshot", "user_defined",
}  # fmt: skip
"""Actions of PyTorch that become events; an ``annotate`` labels the block at its address."""
_LABEL_LETTERS = 100

PoolId = tuple[int, int]
DEFAULT_POOL: PoolId = (0, 0)

FRAMES_READ = 256
_FRAMES_KEPT = 64
_PYTHON = re.compile(r"\.py$|\.py:|^<|/ipykernel_")
"""Pattern for Python files, and for the file names that dynamo, exec and notebooks use."""
_MACHINERY = ("runtime_wrappers.py", "aot_autograd.py")
_COMPILED_GRAPH, _COMPILED = "<eval_with_key>", "compiled graph"
_OF_A_DRY_RUN = re.compile(r"/harness/(dry_runs|prediction)/\w+\.py$")
"""Pattern for the harness's own files, whose frames are left out of the snapshot of a dry run."""


class Stack(NamedTuple):
    """Python frames as ``function (file:line)``, innermost first.

    C++ frames, which PyTorch records unless ``stacks="python"`` is given, are left out. A stack
    that has only C++ frames belongs to an autograd thread.

    ``place`` is the innermost frame in a Python file. ``own`` is the innermost frame in the user's
    files. ``modules`` are the modules whose ``forward`` ran, outermost first.
    """

    place: str | None
    frames: tuple[str, ...]
    own: str | None = None
    modules: tuple[str, ...] = ()


NO_STACK = Stack(None, ())
BEFORE = Stack("before the recording", (), "before the recording")
"""Stack of a block that is older than the recording."""


class TraceEvent(NamedTuple):
    """One entry of a device's trace; in an ``oom`` entry, ``address`` contains the free bytes.

    ``pool`` is None if the recording names no pool. ``stream`` also stores the number of the
    private pool (see ``snapshots.pools``). ``label`` is the text that the program gave the block.
    """

    action: str
    address: int
    size_bytes: int
    stream: int
    pool: PoolId | None
    time_us: int | None
    stack: Stack = NO_STACK
    label: str = ""

    def labelled(self, text: object) -> "TraceEvent":
        """Return the event with ``text`` added to its label; a long label is cut."""
        if not isinstance(text, str) or not text:
            return self
        label = printable(f"{self.label}; {text}" if self.label else text)
        return self._replace(label=label[:_LABEL_LETTERS])


def own_line(event: TraceEvent) -> str:
    """Return the line of user code that requested the memory, with the label of the memory."""
    place, own = event.stack.place, event.stack.own
    line = own or ("no Python frame" if place is None else f"no line of yours ({place})")
    return f'{line}, labelled "{event.label}"' if event.label else line


def reserved_change(event: TraceEvent) -> int:
    """Return the change of the reserved bytes; it is negative if the event frees a segment."""
    if event.action in TAKING:
        return event.size_bytes
    return -event.size_bytes if event.action in GIVING else 0


def printable(text: str) -> str:
    """Replace control characters by ``?``, and cut the text after 200 characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:200])


def stack_of(frames: Any) -> Stack:
    """Return the Python frames as a stack; entries that are not frames are left out."""
    if not isinstance(frames, list):
        return NO_STACK
    place, own = None, None
    texts: list[str] = []
    modules: list[str] = []
    for frame in frames[:FRAMES_READ]:
        if len(texts) == _FRAMES_KEPT or not isinstance(frame, dict):
            continue
        file, function, line = (frame.get(key) for key in ("filename", "name", "line"))
        if not isinstance(file, str) or not _PYTHON.search(file[-300:]):
            continue
        path = file[-300:].replace("\\", "/")
        if _OF_A_DRY_RUN.search(path):
            continue
        base = path.rsplit("/", 1)[-1]
        function = function[:150] if isinstance(function, str) else "?"
        number = line if isinstance(line, int) and abs(line) < ADDRESS_LIMIT else 0
        text = printable(f"{function} ({base}:{number or '?'})")
        texts.append(text)
        if place is None and base.endswith(".py"):
            place = text
        if own is None and base.endswith(".py") and not is_library(path):
            own = text
        if function == "forward" and not base.startswith(_MACHINERY):
            name = _COMPILED if _COMPILED_GRAPH in path else module_name(path, number)
            modules += [] if name is None else [printable(name)]
    return Stack(place, tuple(texts), own, tuple(reversed(modules)))


class RecordedBlock(msgspec.Struct):
    """A block of a segment when the snapshot was taken; a free block has 0 requested bytes."""

    size_bytes: Annotated[int, msgspec.Meta(gt=0, lt=SIZE_LIMIT)] = msgspec.field(name="size")
    requested_bytes: Size = msgspec.field(name="requested_size")
    state: Literal["active_allocated", "active_pending_free", "active_awaiting_free", "inactive"]
    address: int = 0


class RecordedSegment(msgspec.Struct):
    """A segment, or a mapped part of an expandable segment, when the snapshot was taken."""

    address: Address
    size_bytes: Size = msgspec.field(name="total_size")
    kind: str = msgspec.field(name="segment_type")
    blocks: list[RecordedBlock]
    device: Address = 0
    stream: int = 0
    is_expandable: bool = False
    pool: PoolId = msgspec.field(name="segment_pool_id", default=DEFAULT_POOL)

    def __post_init__(self) -> None:
        position = self.address
        for block in self.blocks:  # not all versions record their addresses
            block.address = position
            position += block.size_bytes
            if block.state == "inactive":
                block.requested_bytes = 0
        if position - self.address != self.size_bytes:
            raise ValueError(f"the blocks of the segment at {self.address:#x} do not fill it")
