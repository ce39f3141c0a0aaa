"""The old place of ``harness.prediction.gpu.peaks``, until its last callers are gone."""

from harness.prediction.gpu.peaks import (
    OnCuda,
    fit_on_gpu,
    memory_of_gpu,
    peaks_on,
    verdict_on_gpu,
)

__all__ = ["OnCuda", "fit_on_gpu", "memory_of_gpu", "peaks_on", "verdict_on_gpu"]
