"""Records the peaks of a process, the live blocks at the peaks, and growth."""

import gc
import itertools
import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec.structs import replace

from harness.dry_runs.after_operators import call_after_operators
from harness.dry_runs.allocation_stream import AllocationStream
from harness.dry_runs.call_sites import ENTRY_BYTES
from harness.dry_runs.dry_run_report import Device, Moment, OutOfMemory
from harness.dry_runs.dry_run_request import ALLOCATIONS, SNAPSHOT, Request
from harness.dry_runs.growth_causes import GrowthCauses
from harness.dry_runs.history import NOT_KEPT, History
from harness.dry_runs.host_growth import HostSteps, own_bytes, resident_bytes
from harness.dry_runs.marks import Mark
from harness.dry_runs.own_code import is_own
from harness.dry_runs.peak_recording import PeakRecording
from harness.dry_runs.value_reads import ValueReads
from harness.prediction.after_import import instead
from harness.prediction.gpu.catalogue import VARIABLE
from harness.prediction.gpu.workspaces import workspace_bytes
from harness.schema.block_categories import BlockCategory
from harness.schema.growth import Growth
from harness.schema.metrics import CudaPeaks

if TYPE_CHECKING:
    import torch  # imported by ``_begin_history``, after the script's PyTorch

    from harness.dry_runs.allocator_log import AllocatorLog, Counts

FOLD_EVENTS = 6_000
"""Number of allocation and free events (about 9 MiB) after which these events are processed."""
_SNAPSHOT_EVENTS = 1_000_000
"""Larger ``FOLD_EVENTS`` for runs with a snapshot, which contains only unprocessed events."""

_FOLD_SECONDS = 2.0
"""Seconds to wait at the script's end for another thread that processes events."""

Label = TypeVar("Label")


def recording_for(
    job: Request,
    reads: ValueReads,
    on_begin: Callable[[], object] = lambda: None,
    folder: Path | None = None,
) -> PeakRecording:
    """Return a recording for this process, which writes its files to ``folder``."""
    snapshot = folder / SNAPSHOT if folder is not None and job.snapshot is not None else None
    return Recording(reads, job.steps, on_begin, snapshot=snapshot, folder=folder)


class Recording(PeakRecording):
    """Records the peaks of one process and the live blocks at the peaks."""

    def __init__(
        self,
        reads: ValueReads,
        most_steps: int | None,
        on_begin: Callable[[], object],
        *,
        snapshot: Path | None = None,
        folder: Path | None = None,
        fold_events: int = FOLD_EVENTS,
    ) -> None:
        super().__init__(reads, most_steps, on_begin)
        self._folder, self._pid = folder, os.getpid()
        self._snapshot = snapshot
        self._fold_events = fold_events if snapshot is None else _SNAPSHOT_EVENTS
        self._log: AllocatorLog | None = None
        self._histories: list[History] = []
        self._folding = threading.Lock()
        self._folded_in_step = False
        self._failed = False
        """True if the processing of events failed; the live blocks are then unknown."""
        self._marks: list[Mark] = []
        self._steps: list[Counts] = []
        self._modes: list[tuple[Counts, bool]] = []
        self._borders: list[Counts] = []
        """Marks, step ends, mode changes and results of ``border`` since events were last
        processed."""
        self._owners: dict[int, BlockCategory] | None = None
        self._host = HostSteps()
        self._own_bytes = 0
        self._causes = GrowthCauses()
        self._optimizers: weakref.WeakSet[torch.optim.Optimizer] = weakref.WeakSet()
        self._begins: list[int] = []
        """Index of the first step of each optimizer, counted from 0."""
        self._fold_bytes = 0

    def _begin_history(self) -> None:
        global torch
        import torch
        from torch.optim.optimizer import register_optimizer_step_pre_hook

        from harness.dry_runs.allocator_log import AllocatorLog  # it needs PyTorch

        reset = self._highest.reset_counts
        self._log = AllocatorLog(self._fold_events, self._on_own_call, reset)
        register_optimizer_step_pre_hook(self._mark)
        self._watch_modes()
        self._called_back = call_after_operators(self.fold_if_due)

    def _watch_modes(self) -> None:
        """From now on, record each switch of a module between training and evaluation."""
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

    def _look(self, optimizer: "torch.optim.Optimizer") -> None:
        self._mark(optimizer)
        self._steps.append(self._counts())
        if optimizer not in self._optimizers:
            self._optimizers.add(optimizer)
            self._begins.append(self.optimizer_steps - 1)
        if self.optimizer_steps == 1:  # frozen parameters, which no optimizer has
            self._label(self._mark_modules)
        self._host.look(self.optimizer_steps, self._own_bytes)
        if self.fold_if_due(at_once=self._folded_in_step):
            live = sum(history.live_bytes() for history in self._histories)
            self._host.look_after_fold(self.optimizer_steps, live)
        self._folded_in_step = False
        is_last = self._is_last_step()
        self._label(lambda: self._causes.look(self.optimizer_steps, is_last=is_last))

    def fold_if_due(self, *, at_once: bool = False) -> bool:
        """Process the recorded events if there are many; return whether events were processed."""
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
        """Add the events of a snapshot to the histories."""
        if not self._histories:
            config = os.environ.get(VARIABLE)
            size = workspace_bytes(torch.cuda.get_device_capability(0), config)
            self._histories = [
                History(workspace_bytes=size, own=is_own, stream=self._stream(index))
                for index in range(torch.cuda.device_count())
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

    def _stream(self, device: int) -> AllocationStream | None:
        """Return an object that writes the allocations; None in a process that was forked."""
        if self._folder is None or os.getpid() != self._pid:
            return None
        return AllocationStream(self._folder / f"{ALLOCATIONS}-{device}")

    def _fail(self, error: Exception) -> None:
        self._failed = True
        self._note(f"what held the memory is not known: {type(error).__name__}: {error}")

    def _on_refusal(self, device: int, size: int, total: int, free: int) -> None:
        super()._on_refusal(device, size, total, free)
        self._mark_modules(is_whole=False)  # there may be thousands

    def _mark_modules(self, *, is_whole: bool = True) -> None:
        """Record the owners of blocks: all modules, parameters and optimizers of the process."""
        from harness.dry_runs.owned_blocks import owned_in_process  # it needs PyTorch

        def look(optimizer: torch.optim.Optimizer) -> None:
            if getattr(optimizer, "state", None) and not self.optimizer_steps:
                self._note("the optimizer's step was compiled: its steps are not counted")

        self._add_mark(owned_in_process(look), is_whole=is_whole)

    def mark_owners(self) -> None:
        """Record the current owners of blocks, because the script may soon delete them."""
        if self._log is not None:
            self._label(self._mark_modules)

    def border(self) -> list[int]:
        """Return each device's number of allocations, for a later ``History.most_between``."""
        self._borders.append(self._counts())
        return [allocations for allocations, _ in self._borders[-1]]

    def finish(self) -> tuple[list[Device], list[OutOfMemory]]:
        """Return the results and failed allocations; write a snapshot if the user requested it."""
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
            grow = any(history.steps_grow() for history in histories)
            self.host_growth = self._label(
                lambda: self._causes.named_on_host(self._host.growth(stack_bytes), grow)
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
        """Return the memory at the peak; None if PyTorch dropped the events around the peak."""
        peak = history.peak()
        if peak is None or not history.lost or peak.requested_bytes == peaks.requested_peak_bytes:
            return peak
        self._note(f"what held the memory is not known: {NOT_KEPT}")
        return None

    def _growth(self, history: History) -> Growth | None:
        return self._label(lambda: self._causes.named(history.growth(self._begins)))

    def _label(self, label: Callable[[], Label]) -> Label | None:
        """Return the result of ``label()``; None if the script's objects make it fail."""
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
