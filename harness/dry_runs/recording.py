"""Recording inside the process: the allocator's history and peaks, steps, owners of blocks.

Nothing is started before the script initialises CUDA itself, so settings that it makes in its
first lines hold, and a script that never uses the GPU is left alone.
"""

import gc
import itertools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec.structs import replace

from harness.dry_runs.after_operators import call_after_operators
from harness.dry_runs.call_sites import ENTRY_BYTES
from harness.dry_runs.dry_run_report import Device, Moment, OutOfMemory
from harness.dry_runs.growth_causes import GrowthCauses
from harness.dry_runs.highest_peaks import HighestPeaks
from harness.dry_runs.history import NOT_KEPT, History
from harness.dry_runs.host_growth import HostSteps, own_bytes, resident_bytes
from harness.dry_runs.marks import Mark
from harness.dry_runs.own_code import is_own
from harness.dry_runs.ranks import release_works
from harness.dry_runs.refused_requests import ran_while_handled, refused_request
from harness.dry_runs.value_reads import ValueReads
from harness.prediction.after_import import instead
from harness.prediction.gpu.workspaces import VARIABLE, workspace_bytes
from harness.schema.block_categories import BlockCategory
from harness.schema.growth import Growth
from harness.schema.metrics import CudaPeaks

if TYPE_CHECKING:
    import torch  # ``start`` imports it: this module is loaded before the script's PyTorch is

    from harness.dry_runs.allocator_log import AllocatorLog, Counts

FOLD_EVENTS = 6_000
"""Allocations and frees after which the history is folded: about 9,000 events, of 1 KiB each."""
_SNAPSHOT_EVENTS = 1_000_000
"""The same if the user wants a snapshot, which has the events since the last fold."""

_FOLD_SECONDS = 2.0
"""Seconds that a fold in another thread has to end when the script has ended."""

Label = TypeVar("Label")


class EnoughStepsError(SystemExit):
    """Ends a process, as a script ends itself, after the optimizer steps that were asked for."""


class Recording:
    """Watches one process; ``start`` is called once PyTorch is imported."""

    def __init__(
        self,
        reads: ValueReads,
        most_steps: int | None,
        on_begin: Callable[[], object] = lambda: None,
        *,
        snapshot: Path | None = None,
        fold_events: int = FOLD_EVENTS,
    ) -> None:
        self._reads = reads
        self._on_begin = on_begin
        self._most_steps = most_steps
        self._snapshot = snapshot
        self._fold_events = fold_events if snapshot is None else _SNAPSHOT_EVENTS
        self._log: AllocatorLog | None = None
        self._histories: list[History] = []
        self._folding = threading.Lock()
        self._folded_in_step = False
        self._failed = False
        """A fold ended with an error, so what held the memory is not known."""
        self._marks: list[Mark] = []
        self._steps: list[Counts] = []
        self._modes: list[tuple[Counts, bool]] = []
        self._borders: list[Counts] = []
        """These four, since the last fold."""
        self._owners: dict[int, BlockCategory] | None = None
        self.optimizer_steps = 0
        self._host = HostSteps()
        self._own_bytes = 0
        self._highest = HighestPeaks()
        self._refused: list[OutOfMemory] = []
        self._causes = GrowthCauses()
        self._fold_bytes = 0
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
        if self._log is not None:
            return
        from harness.dry_runs.allocator_log import AllocatorLog  # it needs PyTorch

        reset = self._highest.reset_counts
        self._log = AllocatorLog(self._fold_events, self._on_own_call, reset)
        self._on_begin()
        bindings: Any = torch._C
        self._highest.watch()
        bindings._cuda_attach_out_of_memory_observer(self._on_refusal)
        register_optimizer_step_pre_hook(self._mark)
        register_optimizer_step_post_hook(self._after_step)
        self._watch_modes()
        self._reads.listen()
        self._called_back = call_after_operators(self.fold_if_due)

    def _watch_modes(self) -> None:
        """Note when the script turns a module to evaluation, and back to training."""
        inside: list[bool] = []

        @instead(torch.nn.Module, "train")
        def train(real: Callable[..., Any], module: Any, mode: bool = True) -> Any:
            if inside or torch.compiler.is_compiling():
                return real(module, mode)
            if module.training != mode:
                self._modes.append((self._counts(), mode))
            inside.append(True)  # the modules in it are turned with it
            try:
                return real(module, mode)
            finally:
                inside.clear()

    def _on_own_call(self) -> None:
        self._note("the script's own calls of _record_memory_history were left out")

    def _counts(self) -> "Counts":
        return [] if self._log is None else self._log.counts()

    def _add_mark(self, owners: dict[int, BlockCategory], *, is_whole: bool = False) -> None:
        if self._owners == owners:
            owners = self._owners
        else:
            self._own_bytes += own_bytes(owners)
            self._owners = owners
        allocations = self._counts()[torch.cuda.current_device()][0]
        self._marks.append(Mark(allocations=allocations, owners=owners, is_whole=is_whole))

    def _mark(self, optimizer: "torch.optim.Optimizer", *_: object) -> None:
        if torch.compiler.is_compiling():  # or it would break the graph of a compiled step
            return
        from harness.dry_runs.owned_blocks import owned  # it needs PyTorch

        self._add_mark(owned(optimizer))

    def _after_step(self, optimizer: "torch.optim.Optimizer", *_: object) -> None:
        if torch.compiler.is_compiling():
            return
        self._mark(optimizer)
        if inside := ran_while_handled():
            self._note(inside)
        release_works()
        self._steps.append(self._counts())
        self.optimizer_steps += 1
        if self.optimizer_steps == 1:  # frozen parameters, which no optimizer has
            self._label(self._mark_modules)
        self._host.look(self.optimizer_steps, self._own_bytes)
        if self.fold_if_due(at_once=self._folded_in_step):
            live = sum(history.live_bytes() for history in self._histories)
            self._host.look_after_fold(self.optimizer_steps, live)
        self._folded_in_step = False
        enough = self.optimizer_steps == self._most_steps
        self._label(lambda: self._causes.look(self.optimizer_steps, is_last=enough))
        if enough:
            raise EnoughStepsError

    def fold_if_due(self, *, at_once: bool = False) -> bool:
        """Take the events in that the allocator keeps, if there are many; return whether it did."""
        if self._log is None or self._failed or not self._folding.acquire(blocking=False):
            return False
        collects = gc.isenabled()
        gc.disable()  # it would go through a snapshot's dicts, again and again
        try:
            before = resident_bytes()
            held = self._log.take_if_due(self._counts(), at_once=at_once)
            if held is not None:
                self._fold(held)
                self._folded_in_step = True
                self._fold_bytes = max(self._fold_bytes, resident_bytes() - before)
            return held is not None
        except Exception as error:
            self._fail(error)
            return False
        finally:
            if collects:
                gc.enable()
            self._folding.release()

    def _fold(self, held: Any) -> None:
        """Take the events of a snapshot in."""
        if not self._histories:
            config = os.environ.get(VARIABLE)
            size = workspace_bytes(torch.cuda.get_device_capability(0), config)
            self._histories = [
                History(workspace_bytes=size, own=is_own) for _ in range(torch.cuda.device_count())
            ]
        marks, steps, modes = self._marks, self._steps, self._modes
        borders = [counts for counts in self._borders if counts]
        self._marks, self._steps, self._modes, self._borders = [], [], [], []
        ended, taken = [], 0
        for index, history in enumerate(self._histories):
            events = held["device_traces"][index] if index < len(held["device_traces"]) else []
            before = history.stack_bytes
            ended.append(
                history.fold(
                    events,
                    marks=marks,
                    steps=[step[index] for step in steps],
                    modes=[(counts[index][0], mode) for counts, mode in modes],
                    borders=[counts[index][0] for counts in borders],
                )
            )
            history.lost |= history.counted < sum(held["counts"][index])
            taken += history.stack_bytes - before + ENTRY_BYTES * len(events)
        self._host.leave_out(ended)
        self.history_bytes = max(self.history_bytes, taken)

    def _fail(self, error: Exception) -> None:
        self._failed = True
        self._note(f"what held the memory is not known: {type(error).__name__}: {error}")

    def _on_refusal(self, device: int, size: int, total: int, free: int) -> None:
        """Note an allocation that was refused, before the error unwinds the stack."""
        del total
        if inside := ran_while_handled():
            self._note(inside)
        self._refused.append(refused_request(device, size, free))
        self._mark_modules(is_whole=False)  # there may be thousands

    def _mark_modules(self, *, is_whole: bool = True) -> None:
        """Note what modules and parameters hold, found among all objects of the process."""
        from harness.dry_runs.owned_blocks import owned_in_process  # it needs PyTorch

        def look(optimizer: torch.optim.Optimizer) -> None:
            if getattr(optimizer, "state", None) and not self.optimizer_steps:
                self._note("the optimizer's step was compiled: its steps are not counted")

        self._add_mark(owned_in_process(look), is_whole=is_whole)

    def mark_owners(self) -> None:
        """Note now what modules and parameters hold, because the script may soon let go of them."""
        if self._log is not None:
            self._label(self._mark_modules)

    def border(self) -> list[int]:
        """Return the number of each device's allocations, a border for ``History.most_between``."""
        self._borders.append(self._counts())
        return [allocations for allocations, _ in self._borders[-1]]

    def pinned_bytes(self) -> tuple[int, int] | None:
        """Return most pinned bytes in use, and most that PyTorch's host allocator took."""
        if self._log is None:
            return None
        from harness.instruments.pinned_memory import pinned_bytes  # it needs PyTorch

        return pinned_bytes()

    def finish(self) -> tuple[list[Device], list[OutOfMemory]]:
        """Return what each device saw, and write the snapshot if one is wanted."""
        if self._log is None:
            return [], []
        from harness.dry_runs import allocator_log  # it needs PyTorch

        self._label(self._mark_modules)
        self._label(lambda: self._causes.look_at_end(self.optimizer_steps))
        held, was_folded = self._log.end(), bool(self._histories)
        if not self._folding.acquire(timeout=_FOLD_SECONDS):  # by a signal, in the middle of one
            self._fail(TimeoutError("the allocator's events were being folded"))
        elif not self._failed:
            try:
                self._fold(held)
            except Exception as error:
                self._fail(error)
        histories = [] if self._failed else self._histories
        if self._snapshot is not None:
            if failure := allocator_log.write_snapshot(held, histories, self._snapshot):
                self._note(f"the snapshot was not written: {failure}")
            if was_folded:
                self._note("the snapshot has the last events only")
        self.history_bytes += self._fold_bytes
        stack_bytes = sum(history.stack_bytes for history in histories)
        if histories:
            self.host_growth = self._label(
                lambda: self._causes.named(self._host.growth(stack_bytes), host=True)
            )
        refused: list[OutOfMemory] = []
        devices = []
        self.histories = histories
        for index in range(torch.cuda.device_count()):
            history = histories[index] if histories else None
            devices.append(self._device(index, history, held["segments"]))
            mine = [one for one in self._refused if one.device == index]
            known = [] if history is None else self._label(history.out_of_memory) or []
            moments = itertools.chain(known, itertools.repeat(None))
            refused += [replace(one, at=at) for one, at in zip(mine, moments, strict=False)]
        return devices, refused

    def _peak(self, history: History, peaks: CudaPeaks) -> Moment | None:
        """Return the moment of the peak; None if the events of that moment were not kept."""
        peak = history.peak()
        if peak is None or not history.lost or peak.requested_bytes == peaks.requested_peak_bytes:
            return peak
        self._note(f"what held the memory is not known: {NOT_KEPT}")
        return None

    def _growth(self, history: History) -> Growth | None:
        return self._label(lambda: self._causes.named(history.growth()))

    def _label(self, label: Callable[[], Label]) -> Label | None:
        """Return what held memory; None if an object of the script's refuses to be looked at."""
        try:
            return label()
        except Exception as error:
            self._note(f"what held the memory is not known: {type(error).__name__}: {error}")
            return None

    def _device(
        self, index: int, history: History | None, segments: list[dict[str, Any]]
    ) -> Device:
        device = self._highest.device(index, segments)
        if history is None:
            return device
        return replace(
            device,
            peak=self._label(lambda: self._peak(history, device.peaks)),
            kept_by_works=history.kept_by_works(),
            growth=self._growth(history),
            phases=self._label(history.phases) or {},
        )
