"""The largest batch of any module that fits on a GPU.

The steps at two batches give those at any other, and the allocator model finds the largest of
them that fits. A third prediction, of the next batch, checks both: it does not fit, and it has the
peaks that were derived. Where kernels depend on the batch, it has others. Then a prediction of the
batch itself may still prove it; else the steps are derived anew, and where that leads nowhere, the
search goes on with predictions alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from torch import nn

from harness.allocator import CachingAllocator
from harness.prediction.gpu.catalogue import Gpu, GpuError, find
from harness.prediction.gpu.fit import GpuMemory, Run
from harness.prediction.gpu.recorded_script import RecordedSteps
from harness.prediction.gpu.simulation import Peaks, play
from harness.prediction.largest_value import largest_value
from harness.prediction.mlp import cuda_metrics
from harness.prediction.module.affine_steps import AffineSteps
from harness.prediction.module.asked_step import AskedStep
from harness.prediction.module.module_prediction import ModulePredictionError
from harness.prediction.module.predict_module import STEPS_ON_GPU, run_on_gpu
from harness.schema.events import Trace
from harness.schema.fit import FITS, Fit

HIGHEST = 1 << 24
"""The largest batch that is tried."""
MOST_DERIVATIONS = 4
FIRST = 8
"""Where steps are first derived if none are known: few examples may need other kernels."""

BY_PREDICTIONS = (
    "kernels depend on the batch, so the largest batch was searched by predictions: {count} of them"
)

Progress = Callable[[int, str], object]
"""Called with each batch that was predicted, and the verdict."""


@dataclass(frozen=True, kw_only=True)
class LargestBatch:
    """A batch that fits where the next one does not.

    Attributes:
        batch: None where not even the smallest fits.
        predictions: how many batches were predicted.
        is_derived: whether the steps at two batches led to it.

    """

    batch: int | None
    predictions: int
    is_derived: bool

    @property
    def notes(self) -> list[str]:
        """What the reader must know."""
        return [] if self.is_derived else [BY_PREDICTIONS.format(count=self.predictions)]


def largest_batch(
    build: Callable[[], nn.Module],
    *,
    gpu: Gpu | str,
    known: Mapping[int, Trace] | None = None,
    progress: Progress | None = None,
    **asked: Any,
) -> LargestBatch:
    """Return a batch whose step fits on ``gpu`` where the next one does not.

    Args:
        build: returns the network, as for ``harness.predict``.
        gpu: a GPU of known size, or its name.
        known: steps on this GPU that were predicted already, by batch; used where they are as
            many as are needed.
        progress: called after each prediction that has a verdict.
        asked: further arguments of ``harness.predict``: input_shape, inputs, optimizer, ...

    Raises:
        GpuError: no such GPU, or one of unknown size.
        UnsupportedModuleError: the step cannot be predicted.

    """
    used = find(gpu) if isinstance(gpu, str) else gpu
    memory = cuda_metrics.memory_of_gpu(used, asked.pop("allocator_settings", ""))
    if memory is None:
        raise GpuError(f"gpu must have a known total_bytes, got {used.name!r} without it")
    steps = TracedSteps(build, used.in_environment(), asked)
    steps.known |= {
        batch: trace for batch, trace in (known or {}).items() if trace.steps == steps.count
    }
    start = min(steps.known, default=FIRST * steps.unit)
    return Search(memory, steps, start, progress).largest()


class TracedSteps:
    """The steps of a network on one GPU at any batch, each predicted once."""

    def __init__(self, build: Callable[[], nn.Module], gpu: Gpu, asked: dict[str, Any]) -> None:
        asked = {name: value for name, value in asked.items() if name not in ("device", "steps")}
        self._cudnn = asked.pop("cudnn", True)
        self._asked = {"build": build, **asked}
        self._gpu = gpu
        self.count = STEPS_ON_GPU if asked.get("mode", "train") == "train" else 2
        self.unit: int = asked.get("accumulate", 1)
        """Examples by which a batch grows: one in each micro-batch."""
        self.known: dict[int, Trace] = {}
        self.uses_attention = False

    def at(self, batch: int) -> Trace:
        """Return the events of the steps with ``batch`` examples."""
        if batch not in self.known:
            step = AskedStep(**self._asked, batch=batch)
            ledger, scratch = run_on_gpu(step, self.count, self._gpu, cudnn=self._cudnn)
            self.known[batch] = ledger.trace()
            self.uses_attention = scratch.uses_attention
        return self.known[batch]


def run_of(trace: Trace) -> Run:
    """Return what plays steps until they are steady."""
    return partial(play, RecordedSteps(trace))


def derived_largest(
    memory: GpuMemory, steps: AffineSteps, *, low: int, high: int, guess: int | None = None
) -> int | None:
    """Return the largest batch by the allocator model; None where not even ``low`` fits.

    Args:
        memory: of the GPU.
        steps: at any batch.
        low: the smallest batch to try.
        high: the largest batch to try.
        guess: where the answer may be; by default where what is requested fills the GPU.

    """
    unit = steps.unit
    if guess is None:
        guess = steps.fills(memory.total_bytes - memory.outside_bytes[1])
    found = memory.largest_batch(
        cache(lambda count: run_of(steps.at(count * unit))),
        low=low // unit,
        high=high // unit,
        guess=max(guess // unit, 1),
    )
    return None if found is None else found * unit


def peaks_of(trace: Trace) -> tuple[Peaks, Peaks]:
    """Return the peaks of the first and the measured step on a GPU without end."""
    played = play(RecordedSteps(trace), CachingAllocator())
    return played.first_step, played.measured


class Search:
    """The search on one GPU; ``start`` is a batch that the network takes, of any size."""

    def __init__(
        self, memory: GpuMemory, steps: TracedSteps, start: int, progress: Progress | None = None
    ) -> None:
        self._memory = memory
        self._steps = steps
        self._unit = steps.unit
        self._start = start
        self._progress = progress
        self._verdicts: dict[int, Fit] = {}

    def largest(self) -> LargestBatch:
        """Return the largest batch."""
        at, unit = self._steps.at, self._unit
        low, high = self._start, 2 * self._start + unit  # in units one is odd, one even
        for _ in range(MOST_DERIVATIONS):
            derived = AffineSteps.through((low, at(low)), (high, at(high)), unit=unit)
            if derived is None:
                batch = self._estimate(low, high)
            else:
                batch = derived_largest(self._memory, derived, low=unit, high=HIGHEST) or 0
            if batch < 2 * unit:  # a network may refuse a single example
                break
            if derived and (self._is_confirmed(derived, batch) or self._is_largest(batch)):
                return self._found(batch, is_derived=True)
            low, high = _near(batch // unit) * unit, batch + unit
        return self._by_predictions(self._estimate(low, high))

    def _estimate(self, low: int, high: int) -> int:
        """Return the batch at which a line through two peaks of live bytes fills the GPU."""
        first, second = (self._steps.at(batch).peak_live_bytes for batch in (low, high))
        room = self._memory.total_bytes - self._memory.outside_bytes[1] - first
        batch = low + room * (high - low) // max(1, second - first)
        return min(max(batch, 0), HIGHEST) // self._unit * self._unit

    def _is_confirmed(self, derived: AffineSteps, batch: int) -> bool:
        """Return whether a prediction of the next batch has the derived peaks and does not fit."""
        after = batch + self._unit
        if after > HIGHEST or self._fits(after):
            return False
        return peaks_of(derived.at(after)) == peaks_of(self._steps.at(after))

    def _is_largest(self, batch: int) -> bool:
        """Return whether predictions say that the batch fits and the next does not."""
        return self._fits(batch) and (batch >= HIGHEST or not self._fits(batch + self._unit))

    def _fits(self, batch: int) -> bool:
        if batch not in self._verdicts:
            self._verdicts[batch] = self._memory.verdict(run_of(self._steps.at(batch)))
            if self._progress is not None:
                self._progress(batch, self._verdicts[batch])
        return self._verdicts[batch] == FITS

    def _by_predictions(self, guess: int) -> LargestBatch:
        unit, low = self._unit, self._smallest()
        found = largest_value(
            lambda count: self._fits(count * unit),
            low=low // unit,
            high=HIGHEST // unit,
            guess=max(guess, low) // unit,
        )
        return self._found(None if found is None else found * unit, is_derived=False)

    def _smallest(self) -> int:
        """Return one example in each micro-batch, or two where batch normalization refuses one."""
        try:
            self._steps.at(self._unit)
        except ModulePredictionError:
            return 2 * self._unit
        return self._unit

    def _found(self, batch: int | None, *, is_derived: bool) -> LargestBatch:
        return LargestBatch(batch=batch, predictions=len(self._steps.known), is_derived=is_derived)


def _near(count: int) -> int:
    """Return about seven eighths of ``count``: even where it is even, odd where it is odd.

    Kernels that change with the batch are there mostly those of ``count``.
    """
    return count - 2 * (count // 16 or 1)
