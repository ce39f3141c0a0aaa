"""The allocation trace of PyTorch's allocators, read from the profiler's event tree.

Kineto reports every block that the CPU or CUDA allocator takes and returns, below the
dispatcher too, with the operators around it, at a few per cent of a step. Categories come
from facts: the caller says at marked moments which addresses hold what
(``AllocationRecorder.mark``), and each block alive there with that address gets the category.
Never from names.

The profiler does not report the return of a block that was taken before it started; start
it before the workload is built.

Source: torch/csrc/profiler/collection.h (Allocation events), torch/_C/_profiler.pyi.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import nn
from torch._C._autograd import _disable_profiler, _enable_profiler, _prepare_profiler
from torch._C._profiler import (
    ProfilerActivity,
    ProfilerConfig,
    ProfilerState,
    RecordScope,
    _EventType,
    _ExperimentalConfig,
    _RecordFunctionFast,
)

from harness.events import Event, Trace

_OURS = "harness."
_PHASE = "harness.phase:"
_MODULE = "harness.module:"
_MARK = "harness.mark:"


class AllocationRecorder:
    """Records one thread's trace between ``start`` and ``stop``.

    Use as a context manager; ``trace`` is there once it has ended. Not reentrant: the
    profiler is one per process.
    """

    def __init__(self, device: str = "cpu") -> None:
        self._device = torch.device(device).type
        self._marks: list[Mapping[int, str]] = []
        self._step = 0
        self._result: Any = None
        self._trace: Trace | None = None

    def __enter__(self) -> "AllocationRecorder":
        config = ProfilerConfig(
            ProfilerState.KINETO, False, True, False, False, False, _ExperimentalConfig()
        )
        activities = {ProfilerActivity.CPU}
        _prepare_profiler(config, activities)
        _enable_profiler(config, activities)
        return self

    def __exit__(self, *error: object) -> None:
        self._result = _disable_profiler()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Attribute the block's events to phase ``name`` of the current step."""
        with _RecordFunctionFast(f"{_PHASE}{self._step}:{name}"):
            yield

    def next_step(self) -> None:
        """Begin another step: 1 after the build, then 2."""
        self._step += 1

    def mark_saved(self, address: int) -> None:
        """State that the block at ``address`` was just saved for the backward pass."""
        self.mark({address: "activation"})

    def mark(self, categories: Mapping[int, str]) -> None:
        """State that the blocks alive now at these addresses are of these categories.

        A later mark does not change what an earlier one said of the same block.
        """
        with _RecordFunctionFast(f"{_MARK}{len(self._marks)}"):
            self._marks.append(categories)

    @property
    def trace(self) -> Trace:
        """What was recorded; the profiler's events are read on first use."""
        if self._trace is None:
            tree = self._result.experimental_event_tree()
            self._trace = Trace(_read(tree, self._marks, self._device), steps=self._step)
            self._result = None
        return self._trace


@contextmanager
def module_scopes(model: nn.Module) -> Iterator[None]:
    """Name each module's forward in the trace while the context lasts."""
    handles = []
    open_scopes: list[Any] = []

    def enter(scope: str) -> None:
        open_scopes.append(_RecordFunctionFast(scope))
        open_scopes[-1].__enter__()

    def leave() -> None:
        open_scopes.pop().__exit__(None, None, None)

    for name, module in model.named_modules():
        scope = f"{_MODULE}{name}"
        before = module.register_forward_pre_hook(lambda *_, scope=scope: enter(scope))
        after = module.register_forward_hook(lambda *_: leave(), always_call=True)
        handles += [before, after]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Found(NamedTuple):
    """An allocator event (or a mark, where ``mark`` is its number) as the tree shows it."""

    time_ns: int
    mark: int = -1
    step: int = 0
    phase: str = ""
    path: tuple[str, ...] = ()
    module: str = ""
    size_bytes: int = 0
    address: int = 0


class _Place(NamedTuple):
    """Where the walk stands: unread siblings, and what surrounds them."""

    nodes: Iterator[Any]
    step: int
    phase: str
    path: tuple[str, ...]
    module: str


class _Block:
    """A block while the tree is replayed: what took it, its category still open."""

    __slots__ = ("category", "module", "operator")

    def __init__(self, found: _Found) -> None:
        self.operator = "/".join(found.path)
        self.module = found.module
        self.category = "temporary"


def _read(tree: list[Any], marks: list[Mapping[int, str]], device: str) -> list[Event]:
    """Turn an event tree into events, in order of time."""
    found = sorted(_walk(tree, device), key=attrgetter("time_ns"))
    return _replay(found, marks)


def _walk(tree: list[Any], device: str) -> Iterator[_Found]:
    """Yield the allocations and marks in ``tree``, depth first."""
    allocation, operator = _EventType.Allocation, _EventType.TorchOp
    modules: dict[int, str] = {}
    stack = [_Place(iter(tree), 0, "build", (), "")]
    while stack:
        nodes, step, phase, path, module = stack[-1]
        node = next(nodes, None)
        if node is None:
            stack.pop()
        elif node.tag == allocation:
            fields = node.extra_fields
            if fields.device.type == device:
                size, address = fields.alloc_size, fields.ptr
                yield _Found(node.start_time_ns, -1, step, phase, path, module, size, address)
        elif node.tag == operator:
            name = node.name
            if not name.startswith(_OURS):
                module = _module_of(node, module, modules)
                path = (*path, name)
            elif name.startswith(_MARK):
                yield _Found(node.start_time_ns, int(name.removeprefix(_MARK)))
            elif name.startswith(_MODULE):
                module = name.removeprefix(_MODULE)
            else:
                number, _, phase = name.removeprefix(_PHASE).partition(":")
                step, path = int(number), ()
                # What follows outside any phase belongs to the one just seen.
                stack[-1] = stack[-1]._replace(step=step, phase=phase)
            children = node.children
            if children:
                stack.append(_Place(iter(children), step, phase, path, module))


def _module_of(node: Any, module: str, modules: dict[int, str]) -> str:
    """Return the module of an operator; a backward node shares its forward's sequence."""
    fields = node.extra_fields
    sequence = fields.sequence_number
    if sequence < 0:
        return module
    if fields.scope == RecordScope.BACKWARD_FUNCTION:
        return modules.get(sequence, module)
    modules.setdefault(sequence, module)
    return module


def _replay(found: list[_Found], marks: list[Mapping[int, str]]) -> list[Event]:
    """Follow the blocks through time, so that each mark finds those alive at it."""
    alive: dict[int, _Block] = {}
    rows: list[tuple[_Found, _Block]] = []
    for item in found:
        if item.mark >= 0:
            for address, category in marks[item.mark].items():
                marked = alive.get(address)
                if marked is not None and marked.category == "temporary":
                    marked.category = category
        elif item.size_bytes > 0:
            block = alive[item.address] = _Block(item)
            rows.append((item, block))
        elif item.address in alive:
            rows.append((item, alive.pop(item.address)))
    return [
        Event(
            item.step,
            item.phase,
            block.operator,
            block.module,
            block.category,
            item.size_bytes,
            item.address,
        )
        for item, block in rows
    ]


def storage_addresses(tensors: Iterable[torch.Tensor], category: str) -> dict[int, str]:
    """Return ``{address: category}`` of the tensors' storages, empty ones left out."""
    pairs = itertools.chain.from_iterable(_dense(tensor) for tensor in tensors)
    return {t.untyped_storage().data_ptr(): category for t in pairs if t.untyped_storage().nbytes()}


def _dense(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the tensors that hold the storages: a sparse one has indices and values."""
    if tensor.layout == torch.sparse_coo:
        return (tensor._indices(), tensor._values())
    return (tensor,)
