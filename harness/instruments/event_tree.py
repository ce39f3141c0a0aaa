"""Reads allocations and frees from the profiler's event tree, in order of time.

Reading an attribute of a node takes as long as a small operator of the step, so this module reads
few attributes. For most nodes without children, only the name is read.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from torch._C._profiler import RecordScope

from harness.instruments.allocation_log import Entry, LogMismatchError
from harness.schema.events import BEFORE_TRACE, Event

MODULE = "harness.module:"
CLAIM = "harness.claim:"
PHASE = "harness.phase:"
GONE = "harness.gone:"
WHOLE = "harness.whole"
_OURS = "harness."
_OURS_LENGTH = len(_OURS)

_MEMORY = "[memory]"
_ENGINE = "autograd::engine::"
_OPTIMIZER = "Optimizer."
_STEP = "Optimizer.step#"
_NODE = RecordScope.BACKWARD_FUNCTION

_new = tuple.__new__  # half the time of Event(*fields)


class BlockClaim(NamedTuple):
    """Category for the live block at an address; later claims for the same block are ignored."""

    address: int
    category: str
    module: str = ""
    size_bytes: int = 0
    """Size of the block if the block may be older than the recording, else 0."""


# What the walk finds, ordered by its first field, the time:
# (time_ns, size_bytes, address, step, phase, operator, module) for an allocator's event;
# (time_ns, 0, number, step, phase, kind) for claims, and at its address for a storage's end.
Item = tuple[Any, ...]


class _StepAndPhase:
    """Step and phase of the events that are read next."""

    def __init__(self, *, infer: bool, accumulates: bool) -> None:
        self.step = 0
        self.phase = "build"
        self._infer = infer
        self._accumulates = accumulates
        self._stepped = False

    def announced(self, step: int, phase: str) -> None:
        """Set the step and phase explicitly, and stop inferring steps and phases."""
        self.step, self.phase = step, phase
        self._infer = False

    def forward(self) -> None:
        """Set the phase to the forward pass, and begin a step if the previous step has ended."""
        if not self._infer:
            return
        ended = self._stepped or (self.phase == "backward" and not self._accumulates)
        if self.step == 0 or ended:
            self.step += 1
            self._stepped = False
        self.phase = "forward"

    def backward(self) -> None:
        if self._infer:
            self.phase = "backward"

    def optimizer(self, stepped: bool) -> None:
        """Set the phase to the optimizer; ``stepped`` is True for an optimizer step."""
        if self._infer:
            self.phase = "optimizer"
            self._stepped |= stepped


Change = tuple[int, Callable[..., None], tuple[Any, ...]]
"""Change of the step or the phase: its time, the method to call, and the arguments."""


class Reader:
    """Reads one event tree, and keeps track of the step and the phase.

    On a GPU, the backward pass runs in a thread of autograd. In the tree, the backward thread's
    events are after all other events, so the reader sorts the events by time.
    """

    def __init__(
        self,
        *,
        device: str,
        passages: Sequence[tuple[int, str]] = (),
        infer: bool = False,
        accumulates: bool = False,
    ) -> None:
        """Prepare to read one event tree.

        ``passages`` has an entry for each time that a module's forward pass begins or ends. Each
        entry of ``passages`` contains autograd's sequence number, and the module that runs
        afterwards. With ``infer``, steps and phases are inferred. An inferred step begins with the
        first forward pass after a backward pass. With ``accumulates``, a step begins with the first
        forward pass after an optimizer step.
        """
        # Asking each block for its device costs; without a GPU in use there is one device.
        several = device != "cpu" or torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        self._device = device if several else None
        self._sequences = [sequence for sequence, _ in passages]
        self._modules = [name for _, name in passages]
        self._current = _StepAndPhase(infer=infer, accumulates=accumulates)
        self._changes: list[Change] | None = None if device == "cpu" else []
        self._items: list[Item] = []

    def read(self, tree: Sequence[Any]) -> list[Item]:
        """Return the allocations, the frees and the block claims in ``tree``, in order of time."""
        # A frame: nodes not yet read, operators around them, module, place in the backward
        # pass (0 outside, 1 inside, 2 directly below a node of autograd's engine).
        stack: list[tuple[Iterator[Any], str, str, int]] = [(iter(tree), "", "", 0)]
        while stack:
            nodes, path, module, backward = stack[-1]
            for node in nodes:
                children = node.children
                name = node.name
                if name == _MEMORY:
                    self._allocation(node, path, module)
                elif name[:_OURS_LENGTH] == _OURS:
                    inner = self._ours(node, name, module, backward)
                    if children:
                        around = "" if name.startswith((PHASE, WHOLE)) else path
                        stack.append((iter(children), around, inner, backward))
                        break
                elif children:
                    inner, place = self._operator(node, name, module, backward)
                    around = f"{path}/{name}" if path else name
                    stack.append((iter(children), around, inner, place))
                    break
            else:
                stack.pop()
        self._items.sort(key=itemgetter(0))
        return self._items if self._changes is None else self._in_time(self._changes)

    def _in_time(self, changes: list[Change]) -> list[Item]:
        """Assign each event to the step and the phase at the time of the event."""
        changes.sort(key=itemgetter(0), reverse=True)
        current = self._current
        placed = []
        for item in self._items:
            while changes and changes[-1][0] <= item[0]:
                _, change, arguments = changes.pop()
                change(*arguments)
            placed.append((*item[:3], current.step, current.phase, *item[5:]))
        return placed

    def _change(self, node: Any, change: Callable[..., None], *arguments: Any) -> None:
        """Change step or phase now, or record the change if events will be sorted by time."""
        if self._changes is None:
            change(*arguments)
        else:
            self._changes.append((node.start_time_ns, change, arguments))

    def _allocation(self, node: Any, path: str, module: str) -> None:
        fields = node.extra_fields
        if self._device is not None and fields.device.type != self._device:
            return
        size = fields.alloc_size
        if size:
            at = self._current
            self._items.append(
                (node.start_time_ns, size, fields.ptr, at.step, at.phase, path, module)
            )

    def _ours(self, node: Any, name: str, module: str, backward: int) -> str:
        """Read a range that the recorder wrote; return the module of the events inside it."""
        if name.startswith(MODULE):
            if not backward:
                self._change(node, self._current.forward)
            return name[len(MODULE) :]
        if name.startswith(PHASE):
            step, _, phase = name[len(PHASE) :].partition(":")
            self._change(node, self._current.announced, int(step), phase)
            return module
        if name == WHOLE:
            return module
        kind = CLAIM if name.startswith(CLAIM) else GONE
        number = int(name[len(kind) :])
        at = self._current
        self._items.append((node.start_time_ns, 0, number, at.step, at.phase, kind))
        return module

    def _operator(self, node: Any, name: str, module: str, backward: int) -> tuple[str, int]:
        """Return the module and the backward level of an operator (2: autograd engine, 1: node)."""
        if name.startswith(_ENGINE):
            self._change(node, self._current.backward)
            return module, 2
        if backward == 2:
            return self._module_of(node, module), 1
        if name.startswith(_OPTIMIZER):
            self._change(node, self._current.optimizer, name.startswith(_STEP))
        elif not backward and "Backward" in name and node.extra_fields.scope == _NODE:
            # Where operators are left out, so are the engine's.
            self._change(node, self._current.backward)
            return self._module_of(node, module), 1
        return module, backward

    def _module_of(self, node: Any, module: str) -> str:
        """Return the module whose forward pass created a backward node."""
        sequence = node.extra_fields.sequence_number
        at = bisect_right(self._sequences, sequence) - 1
        return self._modules[at] if sequence >= 0 and at >= 0 else module


def with_requested_sizes(items: Sequence[Item], log: Sequence[Entry]) -> list[Item]:
    """Replace block sizes in ``items`` by the requested sizes in the CUDA allocator's ``log``.

    Only the log contains the frees of an autograd thread that is no longer profiled.
    """
    known: set[int] = set()
    changed: list[Item] = []
    entries = iter(log)
    for item in items:
        size, address = item[1], item[2]
        if size > 0:
            known.add(address)
        elif not size or address not in known:  # claims, or allocated before the recording
            changed.append(item)
            continue
        else:
            known.discard(address)
        entry = next(entries, None)
        while entry is not None and entry.size_bytes < 0 and (size > 0 or entry.address != address):
            known.discard(entry.address)
            changed.append((item[0], *entry, *item[3:5], "", ""))
            entry = next(entries, None)
        if entry is None or entry.address != address or not 0 < entry.size_bytes / size <= 1:
            raise LogMismatchError(
                f"the profiler has {size} bytes at {address:#x}, the log {entry}"
            )
        changed.append((item[0], entry.size_bytes, *item[2:]))
    if rest := [entry for entry in entries if entry.size_bytes > 0]:
        raise LogMismatchError(f"the log has {len(rest)} blocks more than the profiler")
    return changed


@dataclass(slots=True, eq=False)
class _Block:
    """Memory block during the replay; its category may still change."""

    operator: str
    module: str
    category: str = "temporary"


_Row = tuple[int, str, int, int, _Block]
"""Step, phase, size, address and block of an event."""


class Replay:
    """Replays events; a ``BlockClaim`` applies to the block that is alive at the claim's time."""

    def __init__(self, claims: Sequence[Sequence[BlockClaim]]) -> None:
        self._claims = claims
        self._alive: dict[int, _Block] = {}
        self._initial: dict[int, _Row] = {}
        self._before: list[_Row] = []
        self._rows: list[_Row] = []

    def run(self, items: Sequence[Item]) -> list[Event]:
        """Return the events in order; blocks from before the recording are first."""
        alive, rows = self._alive, self._rows
        for item in items:
            size, address = item[1], item[2]
            if size > 0:
                block = alive[address] = _Block(item[5], item[6])
                rows.append((item[3], item[4], size, address, block))
            elif size:
                known = alive.pop(address, None)
                if known is not None:
                    rows.append((item[3], item[4], size, address, known))
            elif item[5] == CLAIM:
                self._note(self._claims[address])
            else:
                self._end(address, item[3], item[4])
        return [
            _new(Event, (step, phase, b.operator, b.module, b.category, size, address))
            for step, phase, size, address, b in (*self._before, *rows)
        ]

    def _note(self, claims: Sequence[BlockClaim]) -> None:
        for address, category, module, size in claims:
            block = self._alive.get(address)
            if block is not None and block.category == "temporary":
                block.category = category
                block.module = module or block.module
            elif block is None and size:
                block = self._alive[address] = _Block(BEFORE_TRACE, module, category)
                self._initial[address] = (0, "build", size, address, block)
                self._before.append(self._initial[address])

    def _end(self, address: int, step: int, phase: str) -> None:
        """If the block at ``address`` is older than the recording, record that it is freed."""
        row = self._initial.pop(address, None)
        if row is not None and self._alive.get(address) is row[-1]:
            del self._alive[address]
            self._rows.append((step, phase, -row[2], *row[3:]))
