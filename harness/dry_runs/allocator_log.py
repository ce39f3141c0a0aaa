"""Starts, reads and ends the history of events in PyTorch's allocator.

PyTorch stores each event in host memory. This module reads and drops the events from time to time,
so the events of a long script need no more memory than the events of a short script.
"""

import pickle
import sys
from collections.abc import Callable, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import torch

from harness.dry_runs.history import History
from harness.schema.block_categories import OWNERS

MOST_EVENTS = 2_000_000
"""Maximum number of stored events; PyTorch drops older events. An event uses about 0.5 KiB."""
Counts = list[tuple[int, int]]
"""For each device, the number of allocations and the number of frees so far."""


class AllocatorLog:
    """PyTorch's history of allocations and frees on all devices.

    Args:
        most: total number of allocations and frees after which the history must be read.
        on_own_call: function to call when the script itself starts or ends PyTorch's history. The
            script's call has no effect, because the call would clear the harness's history.
        reset: function that returns how many allocations and frees a device had before its counters
            were last reset.
    """

    def __init__(
        self,
        most: int,
        on_own_call: Callable[[], object],
        reset: Callable[[int], tuple[int, int]],
    ) -> None:
        self._most = self._next = most
        self._on_own_call = on_own_call
        self._reset = reset
        bindings: Any = torch._C
        self._record: Callable[..., object] = torch.cuda.memory._record_memory_history
        self._real: Callable[..., object] = bindings._cuda_record_memory_history
        self._bindings = bindings
        self._begin()

    def _begin(self) -> None:
        """Start the history, and drop all earlier events."""
        self._bindings._cuda_record_memory_history = self._real
        clears = {"clear_history": True}
        try:
            if "clear_history" not in signature(self._record).parameters:  # before torch 2.8
                self._record(None)  # the end of a history clears it
                clears = {}
            self._record("all", context="all", stacks="python", max_entries=MOST_EVENTS, **clears)
        finally:
            self._bindings._cuda_record_memory_history = self._leave_out

    def _leave_out(self, enabled: object = None, *_: object, **__: object) -> None:
        if enabled is not None:
            self._most = self._next = MOST_EVENTS // 2  # its own snapshots have what is kept
        self._on_own_call()

    def take_if_due(self, now: Counts, *, at_once: bool) -> Any:
        """Clear the history and return its snapshot; None if no snapshot is due or possible."""
        if sum(map(sum, now)) < self._next and not at_once:
            return None
        held = snapshot() | {"counts": now}
        if self.counts() != now:  # a thread of the script goes on
            self._next += self._most
            return None
        self._begin()
        self._next = sum(map(sum, now)) + self._most
        return held

    def counts(self) -> Counts:
        """For each device, return how many allocations and how many frees occurred so far."""
        found = []
        for device in range(torch.cuda.device_count()):
            one = self._bindings._cuda_memoryStats(device)["allocation"]["all"]
            allocated, freed = self._reset(device)
            found.append((allocated + one["allocated"], freed + one["freed"]))
        return found

    def end(self) -> Any:
        """Return a snapshot with the remaining events, and end the history."""
        held = snapshot() | {"counts": self.counts()}
        self._bindings._cuda_record_memory_history = self._real
        self._record(None)
        return held


def snapshot() -> Any:
    """Return the allocator's snapshot, without the import of Inductor, which would take seconds."""
    absent = "torch._inductor" not in sys.modules
    if absent:
        vars(torch)["_inductor"] = None
    try:
        return torch.cuda.memory._snapshot()
    finally:
        if absent:
            del vars(torch)["_inductor"]


def write_snapshot(held: Any, histories: Sequence[History], path: Path) -> Exception | None:
    """Write a snapshot in the format of ``torch.cuda.memory._dump_snapshot``; return any error.

    For the command ``explain``, the file also contains, for each device, the number of allocations
    and the known owners of blocks.
    """
    known = [
        {
            "allocations": allocations,
            "workspace_bytes": history.workspace_bytes,
            "marks": [
                {"allocations": mark.allocations, "owners": mark.owners} for mark in history.marks()
            ],
        }
        for history, (allocations, _) in zip(histories, held["counts"], strict=False)
    ]
    written = {name: value for name, value in held.items() if name != "counts"}
    part = Path(f"{path}.part")
    try:
        with part.open("wb") as file:
            pickle.dump(written | {OWNERS: known}, file)
        part.replace(path)
    except Exception as error:
        part.unlink(missing_ok=True)
        return error
    return None
