"""Computes the CUDA allocator's peaks for an estimated step, with a range for reserved bytes.

Allocated bytes are requested bytes after the size of each block is rounded up. Reserved bytes also
depend on fragmentation, which the estimate does not model. The range of reserved bytes is derived
from networks with known reserved bytes (``accuracy.toml``).
"""

import tomllib
from collections import defaultdict
from pathlib import Path

from msgspec import Struct, convert

from harness.prediction.gpu.catalogue import OUTSIDE_BYTES, Gpu
from harness.prediction.gpu.rounding import block_bytes
from harness.schema.events import Trace
from harness.schema.memory_fit import GpuFit, fit_of
from harness.schema.metrics import CudaMetrics, CudaPeaks
from harness.schema.units import format_bytes


class SizeClass(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Errors of estimates whose peaks are in one range, relative to dry runs of the same steps.

    Attributes:
        below_bytes: largest allocated peak in this range; 0 means no limit.
        reserved_least: smallest ratio of reserved bytes to estimated allocated bytes.
        reserved_most: largest ratio of reserved bytes to estimated allocated bytes.
        steps: number of held-out steps, which were not used to fit the two ratios above.
        within_requested: share of held-out steps whose requested peak has an error up to 1%.
        within_allocated: share of held-out steps whose allocated peak has an error up to 1%.
        requested: lowest and highest relative error of the requested peak.
        allocated: lowest and highest relative error of the allocated peak.
        in_range: share of held-out steps whose reserved peak is in the expected range.
    """

    below_bytes: int
    reserved_least: float
    reserved_most: float
    steps: int
    within_requested: float
    within_allocated: float
    requested: tuple[float, float]
    allocated: tuple[float, float]
    in_range: float

    def __str__(self) -> str:
        bound = self.below_bytes and f"with a peak up to {format_bytes(self.below_bytes)}"
        size = bound or "of the largest size"
        requested, allocated = (
            f"within 1% for {share:.0%} of these steps (errors: {low:+.1%} to {high:+.1%})"
            for share, (low, high) in (
                (self.within_requested, self.requested),
                (self.within_allocated, self.allocated),
            )
        )
        return (
            f"estimate: {self.steps} held-out steps {size} were compared with the dry run. The"
            f" requested peak is {requested}. The allocated peak is {allocated}. The reserved"
            f" peak is in the estimated range for {self.in_range:.0%} of these steps"
        )


class _Accuracy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    made: str
    classes: tuple[SizeClass, ...]


_FILE = Path(__file__).with_name("accuracy.toml")
_KNOWN = convert(tomllib.loads(_FILE.read_text(encoding="utf-8")), _Accuracy, strict=False)


def size_class(allocated_bytes: int) -> SizeClass:
    """Return the known errors of estimates in the range that contains ``allocated_bytes``."""
    fitting = (one for one in _KNOWN.classes if allocated_bytes <= one.below_bytes)
    return next(fitting, _KNOWN.classes[-1])


def reserved_range(allocated_bytes: int) -> tuple[int, int]:
    """Return the expected range of reserved bytes; it never starts below ``allocated_bytes``."""
    known = size_class(allocated_bytes)
    least = max(allocated_bytes, int(allocated_bytes * known.reserved_least))
    return least, max(least, int(allocated_bytes * known.reserved_most))


def estimated_peaks(trace: Trace, workspace_bytes: int) -> CudaMetrics:
    """Return a trace's peaks: while the network is built, in the first and in the last step."""
    live, rounded = 0, 0
    highs: dict[tuple[int, str], list[int]] = defaultdict(lambda: [0, 0])
    for event in trace.events:
        before, sign = (live, rounded), 1 if event.size_bytes > 0 else -1
        live += event.size_bytes
        rounded += sign * block_bytes(abs(event.size_bytes))
        high = highs[event.step, event.phase]
        high[0], high[1] = max(high[0], before[0], live), max(high[1], before[1], rounded)

    def of(step: int) -> dict[str, list[int]]:
        return {phase: high for (at, phase), high in highs.items() if at == step}

    last = of(trace.measured_step)
    return CudaMetrics(
        **_named([*last.values()]),
        workspace_bytes=workspace_bytes,
        first_step=CudaPeaks(**_named([*of(1).values()])),
        phases={name: CudaPeaks(**_named([high])) for name, high in {**of(0), **last}.items()},
    )


def _named(highs: list[list[int]]) -> dict[str, int]:
    requested, allocated = (max(sizes) for sizes in zip(*highs, strict=True))
    return {"requested_peak_bytes": requested, "allocated_peak_bytes": allocated}


def estimated_fit(gpu: Gpu, allocated_bytes: int, settings: str) -> GpuFit | None:
    """Return whether the step fits on ``gpu``; None if the memory size of the GPU is unknown."""
    if gpu.total_bytes is None:
        return None
    low, high = reserved_range(allocated_bytes)
    least, most = OUTSIDE_BYTES
    return GpuFit(
        gpu=gpu.name,
        capability=".".join(map(str, gpu.capability)),
        total_bytes=gpu.total_bytes,
        outside_bytes=OUTSIDE_BYTES,
        allocator_settings=settings,
        allocated_peak_bytes=(allocated_bytes, allocated_bytes),
        reserved_peak_bytes=(low, high),
        verdict=fit_of(
            in_every_case=high + most <= gpu.total_bytes,
            in_some_case=low + least <= gpu.total_bytes,
        ),
    )
