"""Records the allocations and frees of PyTorch's allocators with the profiler.

The profiler (Kineto) reports each block of the CPU or CUDA allocator, with the operators that
allocate the block. The profiler also reports blocks that PyTorch's dispatcher does not see, e.g.
scratch memory of kernels. Profiling adds a few percent to a step's time. For CUDA, the profiler
reports rounded sizes, and the requested sizes are read from the allocator's log. The category of a
block is never inferred from a name. The caller sets the category of a live block by its address
(``AllocationRecorder.mark``).

The free of a block is not reported if the block was allocated before the profiler started. Start
the recorder before the workload is built, or register existing storages with ``adopt``.

Source: torch/csrc/profiler/collection.h (Allocation events), torch/_C/_profiler.pyi.
"""

import ctypes
import functools
import itertools
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._C._autograd import (
    _disable_profiler,
    _enable_profiler,
    _get_sequence_nr,
    _prepare_profiler,
    _record_function_with_args_enter,
    _record_function_with_args_exit,
)
from torch._C._profiler import (
    ProfilerActivity,
    ProfilerConfig,
    ProfilerState,
    RecordScope,
    _ExperimentalConfig,
    _RecordFunctionFast,
)

from harness.instruments import event_tree
from harness.instruments.allocation_log import AllocationLog
from harness.instruments.event_tree import CLAIM, GONE, MODULE, PHASE, WHOLE, BlockClaim
from harness.instruments.forward_hooks import Forward, wrapped_forwards
from harness.schema.events import Trace

_C10_ERROR = 2
"""Level of c10's log at which only errors are shown."""

# Without the operators themselves: backward nodes, and what the profiler's users name.
_OUTLINE = {RecordScope.USER_SCOPE, RecordScope.BACKWARD_FUNCTION}


class _UserRange:
    """Named range that is recorded even if operators are not recorded."""

    __slots__ = ("_handle", "_name")

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        self._handle = _record_function_with_args_enter(self._name)

    def __exit__(self, *error: object) -> None:
        _record_function_with_args_exit(self._handle)


class AllocationRecorder:
    """Records the allocation trace of one thread inside a ``with`` block.

    ``trace`` is available after the ``with`` block. Do not nest recorders, because a process has
    only one profiler. With ``operators=False``, only modules, phases and backward nodes are
    recorded, at a third of the cost. With ``infer=True``, the recorder infers steps and phases,
    unless the caller announces a phase.
    """

    def __init__(self, device: str = "cpu", *, operators: bool = True, infer: bool = False) -> None:
        self._device = torch.device(device).type
        # The faster way to name a range counts as an operator.
        self._range = _RecordFunctionFast if operators else _UserRange
        self._operators = operators
        self._infer = infer
        self._claims: list[list[BlockClaim]] = []
        self._watched: dict[int, weakref.ref[Any]] = {}
        self._passages: list[tuple[int, str]] = []
        self._step = 0
        self._running = False
        self._quiet = ExitStack()
        self._log = AllocationLog() if self._device == "cuda" else None
        self._whole = self._range(WHOLE)
        self.accumulates = False
        """True if each inferred step ends with an optimizer step."""
        self._result: Any = None

    def __enter__(self) -> "AllocationRecorder":
        if self._log is not None:
            self._log.start()
        config = ProfilerConfig(
            ProfilerState.KINETO, False, True, False, False, False, _ExperimentalConfig()
        )
        activities = {ProfilerActivity.CPU}
        # Kineto reads its level once per process, now, and else writes its start and stop.
        user_chose = "KINETO_LOG_LEVEL" in os.environ
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")
        _prepare_profiler(config, activities)
        if not user_chose:
            del os.environ["KINETO_LOG_LEVEL"]
        # The stub knows two arguments; the third is in torch/csrc/autograd/init.cpp.
        enable: Callable[..., None] = _enable_profiler
        enable(config, activities, set() if self._operators else _OUTLINE)
        self._quiet.enter_context(_errors_only())
        self._running = True
        if self._log is not None:
            # The tree leaves out what a GPU's allocator does outside of any operator or range.
            self._whole.__enter__()
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        self._running = False
        if self._log is not None:
            self._whole.__exit__(None, None, None)
        self._result = _disable_profiler()
        self._quiet.close()
        if self._log is not None:
            # The step's own error is never replaced by one of reading its log.
            with suppress(*[] if kind is None else [Exception]):
                self._log.stop()

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Assign events inside the ``with`` block to the phase ``name`` of the current step."""
        return self._range(f"{PHASE}{self._step}:{name}")

    def next_step(self) -> None:
        """Begin the next step; events while the network is built belong to step 0."""
        self._step += 1

    def mark_saved(self, address: int) -> None:
        """Mark the memory block at ``address`` as an activation saved for the backward pass."""
        self.mark({address: "activation"})

    def mark(self, categories: Mapping[int, str]) -> None:
        """Set the categories of live memory blocks by their addresses.

        Only the first mark of a block has an effect.
        """
        self._claim([BlockClaim(address, category) for address, category in categories.items()])

    def adopt(self, tensors: Iterable[torch.Tensor], category: str, module: str = "") -> None:
        """Register storages that may have been allocated before the recording.

        Storages from before the recording are first in the trace, and their frees are recorded.
        Storages on other devices are ignored, e.g. an optimizer's step counters on the CPU.
        """
        claims = []
        for storage in itertools.chain.from_iterable(map(storages_of, tensors)):
            if storage.device.type != self._device:
                continue
            address, size = storage.data_ptr(), storage.nbytes()
            known = self._watched.get(address)
            if not size or (known is not None and known() is not None):
                continue
            claims.append(BlockClaim(address, category, module, size))
            gone = functools.partial(self._gone, address)
            self._watched[address] = weakref.ref(storage, gone)
        self._claim(claims)

    def _claim(self, claims: list[BlockClaim]) -> None:
        if claims:
            with self._range(f"{CLAIM}{len(self._claims)}"):
                self._claims.append(claims)

    def _gone(self, address: int, _: object) -> None:
        if self._running:
            with self._range(f"{GONE}{address}"):
                pass

    def module_scope(self, name: str) -> AbstractContextManager[None]:
        """Assign events inside the ``with`` block to the forward pass of the module ``name``."""
        return self._range(MODULE + name)

    def module_scopes(
        self, model: nn.Module, names: list[str] | None = None
    ) -> AbstractContextManager[None]:
        """Inside the ``with`` block, assign events to the module whose forward pass runs.

        ``names`` is an optional list that receives the names of the running modules.
        """
        stack = [""] if names is None else names
        passages, named = self._passages, self._range
        # Sequence numbers are a thread's own. What the backward pass of a GPU recomputes runs
        # in a thread of autograd's, and no node made there is ever run.
        own_thread = threading.get_ident()

        def passed(name: str) -> None:
            if threading.get_ident() == own_thread:
                passages.append((_get_sequence_nr(), name))

        def scoped(name: str, forward: Forward) -> Forward:
            scope = MODULE + name

            def run(*args: Any, **kwargs: Any) -> Any:
                stack.append(name)
                passed(name)
                try:
                    with named(scope):
                        return forward(*args, **kwargs)
                finally:
                    stack.pop()
                    passed(stack[-1])

            return run

        return wrapped_forwards(model, scoped)

    @functools.cached_property
    def trace(self) -> Trace:
        """The recorded trace; the profiler's events are converted at the first access."""
        reader = event_tree.Reader(
            device=self._device,
            passages=self._passages,
            infer=self._infer,
            accumulates=self.accumulates,
        )
        items = reader.read(self._result.experimental_event_tree())
        if self._log is not None:
            items = event_tree.with_requested_sizes(items, self._log.entries)
        events = event_tree.Replay(self._claims).run(items)
        steps = max((e.step for e in events), default=0) if self._infer else self._step
        self._result = None
        return Trace(events, steps=steps)


def storage_addresses(tensors: Iterable[torch.Tensor], category: str) -> dict[int, str]:
    """Map the address of each nonempty storage of the tensors to ``category``."""
    storages = itertools.chain.from_iterable(map(storages_of, tensors))
    return {storage.data_ptr(): category for storage in storages if storage.nbytes()}


def storages_of(tensor: torch.Tensor) -> list[torch.UntypedStorage]:
    """Return the storages of ``tensor``: one if dense, two in COO format, none in other formats."""
    if tensor.layout == torch.strided:
        return [tensor.untyped_storage()]
    if tensor.layout == torch.sparse_coo:
        return [tensor._indices().untyped_storage(), tensor._values().untyped_storage()]
    return []


@contextmanager
def _errors_only() -> Iterator[None]:
    """Hide warnings of PyTorch's C++ code inside the ``with`` block.

    While the profiler runs, the CPU allocator warns at every thousandth free of a block from before
    the recording (ProfiledCPUMemoryReporter::Delete, c10/core/CPUAllocator.cpp). In a traced step,
    blocks from before the recording are gradients of the previous step, which ``adopt`` registers.
    Only c10's log level can hide the allocator's warning. A log level that the user chose is kept.
    """
    level = None if "TORCH_CPP_LOG_LEVEL" in os.environ else _log_level()
    if level is None or level.value >= _C10_ERROR:
        yield
        return
    before, level.value = level.value, _C10_ERROR
    try:
        yield
    finally:
        level.value = before


@functools.cache
def _log_level() -> ctypes.c_int | None:
    """Return the C++ variable with c10's log level, or None if PyTorch does not export it."""
    folder = Path(torch.__file__).parent / "lib"
    try:
        library = ctypes.CDLL(str(next(folder.glob("*c10.*"))))
        return ctypes.c_int.in_dll(library, "FLAGS_caffe2_log_level")
    except (OSError, StopIteration, ValueError):
        return None
