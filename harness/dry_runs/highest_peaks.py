"""Highest peaks of PyTorch's allocator, whether or not the script resets its counters."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.dry_runs.dry_run_report import Device
from harness.prediction.after_import import instead
from harness.schema.metrics import CudaPeaks

_PEAKS = ("requested_bytes", "allocated_bytes", "active_bytes", "reserved_bytes")


class HighestPeaks:
    """Highest peaks of each device; PyTorch has been imported when it is used."""

    def __init__(self) -> None:
        self._highest: dict[int, dict[str, int]] = {}

    def watch(self) -> None:
        """Remember peaks before the script resets them."""
        bindings: Any = sys.modules["torch"]._C

        def keeping(reset: Callable[[int], None], device: int) -> None:
            self._keep(device)
            reset(device)

        for name in ("_cuda_resetPeakMemoryStats", "_accelerator_resetPeakStats"):
            if hasattr(bindings, name):
                instead(bindings, name)(keeping)

    def of(self, device: int) -> CudaPeaks:
        """Return the highest peaks of a device until now."""
        self._keep(device)
        highest = self._highest[device]
        return CudaPeaks(
            **{name.replace("_bytes", "_peak_bytes"): highest[name] for name in _PEAKS}
        )

    def device(self, index: int, segments: Sequence[Mapping[str, Any]]) -> Device:
        """Return the counts of a device, whose segments are among those of a snapshot."""
        private = [s for s in segments if s["device"] == index and any(s["segment_pool_id"])]
        stats = sys.modules["torch"].cuda.memory_stats(index)
        return Device(
            index=index,
            peaks=self.of(index),
            allocations=stats.get("allocation.all.allocated", 0),
            requested_total_bytes=stats.get("requested_bytes.all.allocated", 0),
            segments=stats.get("segment.all.allocated", 0),
            retries=stats.get("num_alloc_retries", 0),
            ooms=stats.get("num_ooms", 0),
            graph_pools=len({s["segment_pool_id"] for s in private}),
            graph_pool_bytes=sum(s["total_size"] for s in private),
        )

    def _keep(self, device: int) -> None:
        stats = sys.modules["torch"].cuda.memory_stats(device)
        highest = self._highest.setdefault(device, dict.fromkeys(_PEAKS, 0))
        for name in _PEAKS:
            highest[name] = max(highest[name], stats.get(f"{name}.all.peak", 0))
