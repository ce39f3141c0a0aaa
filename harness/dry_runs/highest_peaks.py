"""Records PyTorch's memory peaks and totals, even if the script resets PyTorch's counters."""

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.dry_runs.dry_run_report import Device
from harness.prediction.after_import import instead
from harness.schema.metrics import CudaPeaks

_PEAKS = ("requested_bytes", "allocated_bytes", "active_bytes", "reserved_bytes")
_COUNTED, _FREED = "allocation.all.allocated", "allocation.all.freed"


class HighestPeaks:
    """The highest memory peaks of each device; create this object after PyTorch is imported."""

    def __init__(self) -> None:
        self._highest: dict[int, dict[str, int]] = {}
        self._before: dict[int, Counter[str]] = {}
        """Totals of each device before the script last reset the counters."""

    def watch(self) -> None:
        """From now on, save a device's peaks and totals before the script resets the counters."""
        bindings: Any = sys.modules["torch"]._C

        def keeping(reset: Callable[[int], None], device: int) -> None:
            self._keep(device)
            reset(device)

        def adding(reset: Callable[[int], None], device: int) -> None:
            before = self._before.setdefault(device, Counter())
            before.update(_stats(device))
            reset(device)

        for what, stand_in in (("Peak", keeping), ("Accumulated", adding)):
            for name in (f"_cuda_reset{what}MemoryStats", f"_accelerator_reset{what}Stats"):
                if hasattr(bindings, name):
                    instead(bindings, name)(stand_in)

    def totals(self, device: int) -> Counter[str]:
        """Return PyTorch's totals of a device, as if the script had never reset the counters."""
        return Counter(_stats(device)) + self._before.get(device, Counter())

    def reset_counts(self, device: int) -> tuple[int, int]:
        """Return how many allocations and frees preceded the script's last counter reset."""
        before = self._before.get(device, Counter())
        return before[_COUNTED], before[_FREED]

    def of(self, device: int) -> CudaPeaks:
        """Return the highest peaks of a device so far."""
        self._keep(device)
        highest = self._highest[device]
        return CudaPeaks(
            **{name.replace("_bytes", "_peak_bytes"): highest[name] for name in _PEAKS}
        )

    def device(self, index: int, segments: Sequence[Mapping[str, Any]]) -> Device:
        """Return peaks and counts of a device; ``segments`` are all segments of a snapshot."""
        private = [s for s in segments if s["device"] == index and any(s["segment_pool_id"])]
        totals = self.totals(index)
        return Device(
            index=index,
            peaks=self.of(index),
            allocations=totals[_COUNTED],
            requested_total_bytes=totals["requested_bytes.all.allocated"],
            segments=totals["segment.all.allocated"],
            retries=totals["num_alloc_retries"],
            ooms=totals["num_ooms"],
            graph_pools=len({s["segment_pool_id"] for s in private}),
            graph_pool_bytes=sum(s["total_size"] for s in private),
        )

    def _keep(self, device: int) -> None:
        stats = _stats(device)
        highest = self._highest.setdefault(device, dict.fromkeys(_PEAKS, 0))
        for name in _PEAKS:
            highest[name] = max(highest[name], stats.get(f"{name}.all.peak", 0))


def _stats(device: int) -> Mapping[str, int]:
    stats: Mapping[str, int] = sys.modules["torch"].cuda.memory_stats(device)
    return stats
