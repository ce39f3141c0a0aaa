"""Recording inside the process: the allocator's history and peaks, steps, owners of blocks.

Nothing is started before the script initialises CUDA itself, so settings that it makes in its
first lines hold, and a script that never uses the GPU is left alone.
"""

import contextlib
import dataclasses
import gc
import os
import pickle
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from msgspec.structs import replace

from harness.dry_runs.dry_run_report import BlockCategory, Device, Frame, OutOfMemory
from harness.dry_runs.history import History, HistoryEvent, Mark
from harness.dry_runs.host_growth import (
    every_step,
    history_bytes,
    host_bytes,
    host_growth,
    own_bytes,
)
from harness.dry_runs.own_code import is_own, users_frame
from harness.dry_runs.ranks import release_works
from harness.dry_runs.value_reads import ValueReads
from harness.prediction.after_import import instead
from harness.prediction.gpu.workspaces import VARIABLE, workspace_bytes
from harness.schema.growth import Growth
from harness.schema.metrics import CudaPeaks

if TYPE_CHECKING:
    import torch  # ``start`` imports it: this module is loaded before the script's PyTorch is

    from harness.dry_runs.kept_tensors import Held

MOST_EVENTS = 2_000_000
"""Most events of the history; older ones are dropped. An event takes about 0.5 KiB of the host."""

_LOOKS = frozenset(1 << power for power in range(2, 40))
"""Steps after which names are looked through for what they hold."""

_ALL_STEPS, _HOST_SHARE = 50, 100
"""Steps after each of which the host is looked at; later ones take a hundredth of the time."""

NO_NAME = ("no variable of the script leads to more than before: a cycle of objects, perhaps",)

Label = TypeVar("Label")

PEAKS = ("requested_bytes", "allocated_bytes", "active_bytes", "reserved_bytes")


class EnoughStepsError(SystemExit):
    """Ends a process, as a script ends itself, after the optimizer steps that were asked for."""


class Recording:
    """Watches one process; ``start`` is called once PyTorch is imported."""

    def __init__(
        self,
        reads: ValueReads,
        most_steps: int | None,
        on_begin: Callable[[], object] = lambda: None,
    ) -> None:
        self._reads = reads
        self._on_begin = on_begin
        self._most_steps = most_steps
        self._marks: list[Mark] = []
        self.steps: list[list[tuple[int, int]]] = []
        """The counts of each device at the end of each optimizer step."""
        self._host: dict[int, int] = {}
        """Bytes that the host had allocated at the end of a step."""
        self._host_due = 0.0
        self._own_bytes = 0
        self._folded: dict[int, dict[str, int]] = {}
        self._refused: list[OutOfMemory] = []
        self._held: list[Held] = []
        self._modes: list[tuple[list[tuple[int, int]], bool]] = []
        self._begun = False
        self._real_history: object = None
        self.histories: list[History] = []
        """Each GPU, after the end."""
        self.history_bytes = 0
        self.host_growth: Growth | None = None
        self.notes: dict[str, None] = {}
        """Each once, in the order in which they came."""
        self._note = self.notes.setdefault

    def start(self, torch_module: object, *, at_once: bool = False) -> None:
        """Have recording begin when PyTorch, just imported, initialises CUDA, or at once."""
        global torch
        import torch

        assert torch_module is torch
        if at_once:
            self._begin()
        else:
            torch.cuda._lazy_call(self._begin)  # type: ignore[no-untyped-call]

    def _begin(self) -> None:
        """Start recording; called inside CUDA's initialisation by the script."""
        from torch.optim.optimizer import (
            register_optimizer_step_post_hook,
            register_optimizer_step_pre_hook,
        )

        backend = torch.cuda.get_allocator_backend()
        if backend != "native":
            self._note(f"the allocator {backend} keeps no history and no peaks")
            return
        if self._begun:
            return
        self._begun = True
        self._on_begin()
        torch.cuda.memory._record_memory_history(
            "all", context="all", stacks="python", max_entries=MOST_EVENTS
        )
        bindings: Any = torch._C
        self._real_history = bindings._cuda_record_memory_history
        bindings._cuda_record_memory_history = self._leave_out
        self._fold_resets()
        bindings._cuda_attach_out_of_memory_observer(self._on_refusal)
        register_optimizer_step_pre_hook(self._mark)
        register_optimizer_step_post_hook(self._after_step)
        self._watch_modes()
        self._reads.listen()

    def _watch_modes(self) -> None:
        """Note when the script turns a module to evaluation, and back to training."""
        inside: list[bool] = []

        @instead(torch.nn.Module, "train")
        def train(real: Callable[..., Any], module: Any, mode: bool = True) -> Any:
            if inside or torch.compiler.is_compiling():
                return real(module, mode)
            if module.training != mode:
                self._modes.append((_counts(), mode))
            inside.append(True)  # the modules in it are turned with it
            try:
                return real(module, mode)
            finally:
                inside.clear()

    def _leave_out(self, *_: object, **__: object) -> None:
        """Stand in for the script's own calls, which would clear or end the history."""
        self._note("the script's own calls of _record_memory_history were left out")

    def _fold_resets(self) -> None:
        """Remember peaks before the script resets them."""

        def folding(reset: Callable[[int], None], device: int) -> None:
            self._fold(device)
            reset(device)

        for name in ("_cuda_resetPeakMemoryStats", "_accelerator_resetPeakStats"):
            if hasattr(torch._C, name):
                instead(torch._C, name)(folding)

    def _fold(self, device: int) -> None:
        stats = torch.cuda.memory_stats(device)
        highest = self._folded.setdefault(device, dict.fromkeys(PEAKS, 0))
        for name in PEAKS:
            highest[name] = max(highest[name], stats.get(f"{name}.all.peak", 0))

    def _add_mark(self, owners: dict[int, BlockCategory]) -> None:
        if self._marks and self._marks[-1].owners == owners:
            owners = cast("dict[int, BlockCategory]", self._marks[-1].owners)
        else:
            self._own_bytes += own_bytes(owners)
        self._marks.append(
            Mark(allocations=_counts()[torch.cuda.current_device()][0], owners=owners)
        )

    def _mark(self, optimizer: "torch.optim.Optimizer", *_: object) -> None:
        if not torch.compiler.is_compiling():  # or it would break the graph of a compiled step
            self._add_mark(_owned(optimizer))

    def _after_step(self, optimizer: "torch.optim.Optimizer", *_: object) -> None:
        if torch.compiler.is_compiling():
            return
        self._mark(optimizer)
        release_works()
        self.steps.append(_counts())
        if len(self.steps) == 1:  # frozen parameters, which no optimizer has
            self._label(self._mark_modules)
        self._watch_host()
        enough = len(self.steps) == self._most_steps
        if enough or len(self.steps) in _LOOKS:
            self._label(lambda: self._look(len(self.steps)))
        if enough:
            raise EnoughStepsError

    def _watch_host(self) -> None:
        """Note what the host has allocated; on a long run not at each step, because that costs."""
        begin = time.thread_time()
        if begin < self._host_due:
            return
        self._host[len(self.steps)] = host_bytes() - self._own_bytes
        now = time.thread_time()
        self._host_due = now + _HOST_SHARE * (now - begin) if len(self.steps) > _ALL_STEPS else 0.0

    def _look(self, step: int) -> None:
        from harness.dry_runs.kept_tensors import held_by_names  # it needs PyTorch

        self._held.append(held_by_names(step))

    def _named(self, growth: Growth, *, host: bool = False) -> Growth:
        """Return the growth with the names of the script that keep what grows."""
        if growth.kind != "leak" or len(self._held) < 2:
            return growth
        from harness.dry_runs import kept_tensors

        named = kept_tensors.host_causes if host else kept_tensors.causes
        found = (*growth.causes, *named(*self._held[-2:])) or NO_NAME
        return dataclasses.replace(growth, causes=found)

    def _on_refusal(self, device: int, size: int, total: int, free: int) -> None:
        """Note an allocation that was refused, before the error unwinds the stack."""
        del total
        self._refused.append(
            OutOfMemory(
                device=device,
                requested_bytes=size,
                allocated_bytes=torch.cuda.memory_allocated(device),
                reserved_bytes=torch.cuda.memory_reserved(device),
                free_bytes=free,
                stack=tuple(
                    Frame(file=f.filename, line=f.lineno or 0, function=f.name, text=f.line or "")
                    for f in reversed(traceback.extract_stack(users_frame()))
                    if not is_own(f.filename)
                ),
            )
        )
        self._mark_modules()

    def _mark_modules(self) -> None:
        """Note what modules and parameters hold, found among all objects of the process."""
        from harness.instruments.tensor_roles import parts_of_parameter  # it needs PyTorch

        owners: dict[int, BlockCategory] = {}
        for thing in gc.get_objects():
            kind = type(thing)  # isinstance would have lazy objects load themselves
            if issubclass(kind, torch.nn.Parameter):
                for part in parts_of_parameter(thing):
                    _own(owners, part, "parameter")
                _own(owners, thing.grad, "gradient")
            elif issubclass(kind, torch.nn.Module):
                for buffer in thing._buffers.values():
                    _own(owners, buffer, "buffer")
            elif issubclass(kind, torch.optim.Optimizer):
                owners = _owned(thing) | owners
                if getattr(thing, "state", None) and not self.steps:
                    self._note("the optimizer's step was compiled: its steps are not counted")
        self._add_mark(owners)

    def allocations(self) -> list[int]:
        """Return the number of each device's allocations so far; nothing before the first."""
        return [one for one, _ in _counts()] if self._begun else []

    def pinned_bytes(self) -> tuple[int, int] | None:
        """Return most pinned bytes in use, and most that PyTorch's host allocator took."""
        if not self._begun:
            return None
        from harness.instruments.cuda_counters import pinned_bytes  # it needs PyTorch

        return pinned_bytes()

    def finish(self, snapshot: Path | None) -> tuple[list[Device], list[OutOfMemory]]:
        """Return what each device saw, and write the snapshot if one is wanted."""
        if not self._begun:
            return [], []
        self._label(self._mark_modules)
        held = _snapshot()
        torch._C._cuda_record_memory_history = self._real_history  # type: ignore[assignment]
        torch.cuda.memory._record_memory_history(None)
        if snapshot is not None:
            self._write_snapshot(held, snapshot)
        traces = cast("list[list[HistoryEvent]]", held["device_traces"])
        refused: list[OutOfMemory] = []
        devices = []
        histories = [
            self._history(index, traces[index] if index < len(traces) else [])
            for index in range(torch.cuda.device_count())
        ]
        self.histories = histories
        self.history_bytes = sum(map(history_bytes, histories))
        self.host_growth = self._label(
            lambda: self._named(host_growth(every_step(self._host), histories), host=True)
        )
        for index, history in enumerate(histories):
            devices.append(self._device(index, history, held["segments"]))
            mine = [one for one in self._refused if one.device == index]
            moments = self._label(history.out_of_memory) or []
            refused += [replace(one, at=at) for one, at in zip(mine, moments, strict=False)]
        return devices, refused

    def _label(self, label: Callable[[], Label]) -> Label | None:
        """Return what held memory; None if an object of the script's refuses to be looked at."""
        try:
            return label()
        except Exception as error:
            self._note(f"what held the memory is not known: {type(error).__name__}: {error}")
            return None

    def _write_snapshot(self, snapshot: object, path: Path) -> None:
        """Write the snapshot as ``torch.cuda.memory._dump_snapshot`` does."""
        part = Path(f"{path}.part")
        try:
            with part.open("wb") as file:
                pickle.dump(snapshot, file)
            part.replace(path)
        except Exception as error:
            part.unlink(missing_ok=True)
            self._note(f"the snapshot was not written: {error}")

    def _history(self, index: int, events: list[HistoryEvent]) -> History:
        config = os.environ.get(VARIABLE)
        if len(events) >= MOST_EVENTS:
            self._note(f"only the last {MOST_EVENTS:,} events of the allocator were kept")
        return History(
            events=events,
            marks=self._marks,
            steps=[step[index][0] for step in self.steps],
            ends=[sum(step[index]) for step in self.steps],
            modes=[(counts[index][0], mode) for counts, mode in self._modes],
            workspace_bytes=workspace_bytes(torch.cuda.get_device_capability(0), config),
            own=is_own,
        )

    def _device(self, index: int, history: History, segments: list[dict[str, Any]]) -> Device:
        private = [s for s in segments if s["device"] == index and any(s["segment_pool_id"])]
        self._fold(index)
        stats = torch.cuda.memory_stats(index)
        peaks = {name.replace("_bytes", "_peak_bytes"): self._folded[index][name] for name in PEAKS}
        return Device(
            index=index,
            peaks=CudaPeaks(**peaks),
            allocations=stats.get("allocation.all.allocated", 0),
            requested_total_bytes=stats.get("requested_bytes.all.allocated", 0),
            segments=stats.get("segment.all.allocated", 0),
            retries=stats.get("num_alloc_retries", 0),
            ooms=stats.get("num_ooms", 0),
            graph_pools=len({s["segment_pool_id"] for s in private}),
            graph_pool_bytes=sum(s["total_size"] for s in private),
            peak=self._label(history.peak),
            kept_by_works=history.kept_by_works(),
            growth=self._label(lambda: self._named(history.growth())),
            phases=self._label(history.phases) or {},
        )


def _counts() -> list[tuple[int, int]]:
    """Return the number of each device's allocations so far, and of its frees."""
    stats = map(torch.cuda.memory_stats, range(torch.cuda.device_count()))
    return [(one["allocation.all.allocated"], one["allocation.all.freed"]) for one in stats]


def _snapshot() -> Any:
    """Return the allocator's snapshot; PyTorch would import Inductor for it, for seconds."""
    absent = "torch._inductor" not in sys.modules
    if absent:
        vars(torch)["_inductor"] = None
    try:
        return torch.cuda.memory._snapshot()
    finally:
        if absent:
            del vars(torch)["_inductor"]


def _owned(optimizer: "torch.optim.Optimizer") -> dict[int, BlockCategory]:
    """Return the blocks of an optimizer's parameters, gradients and states."""
    owners: dict[int, BlockCategory] = {}
    for group in getattr(optimizer, "param_groups", ()):
        for parameter in group["params"]:
            _own(owners, parameter, "parameter")
            _own(owners, parameter.grad, "gradient")
    # An optimizer that keeps its state elsewhere, such as torchao's CPUOffloadOptimizer, has none.
    for state in getattr(optimizer, "state", {}).values():
        for value in state.values() if isinstance(state, dict) else ():
            _own(owners, value, "optimizer_state")
    return owners


def _own(owners: dict[int, BlockCategory], value: object, category: BlockCategory) -> None:
    """Note the block of a tensor on the GPU."""
    if not isinstance(value, torch.Tensor):
        return
    local = getattr(value, "_local_tensor", value)  # of a DTensor: this rank's part
    if local.is_cuda and local.layout == torch.strided:
        # The output of a CUDA graph that was replayed since has no address any more.
        with contextlib.suppress(RuntimeError):
            owners.setdefault(local.untyped_storage().data_ptr(), category)
