"""Highest peaks of PyTorch's allocator, whether or not the script resets its counters."""

import sys
from collections.abc import Callable
from typing import Any

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

    def _keep(self, device: int) -> None:
        stats = sys.modules["torch"].cuda.memory_stats(device)
        highest = self._highest.setdefault(device, dict.fromkeys(_PEAKS, 0))
        for name in _PEAKS:
            highest[name] = max(highest[name], stats.get(f"{name}.all.peak", 0))
