"""One row for each GPU of the catalogue: does the step fit, and how far could the batch grow.

The step is predicted at two batches and played on every GPU with that GPU's memory and cuBLAS
workspace. Only where it uses fused attention, whose kernel depends on the capability, is that
done once for each family of GPUs. The steps at any other batch are derived from the two, and a
prediction at the largest batch must have the same peaks. Where kernels change with the batch and
it has others, two predictions for each GPU prove its batch, or a search finds another one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from harness.prediction.gpu.catalogue import GPUS, Gpu
from harness.prediction.gpu.fit import GpuMemory
from harness.prediction.gpu.recorded_script import RecordedSteps
from harness.prediction.gpu.simulation import play
from harness.prediction.gpu.workspaces import are_kept, workspace_bytes
from harness.prediction.mlp import cuda_metrics
from harness.prediction.module.affine_steps import AffineSteps
from harness.prediction.module.event_ledger import WORKSPACE
from harness.prediction.module.largest_batch import (
    HIGHEST,
    LargestBatch,
    Search,
    TracedSteps,
    derived_largest,
    peaks_of,
)
from harness.prediction.module.module_prediction import ModulePredictionError
from harness.schema.events import Trace
from harness.schema.fit import FITS, GpuFit


@dataclass(frozen=True, kw_only=True)
class GpuRow:
    """What one GPU makes of the step.

    Attributes:
        fit: the verdict and the peaks.
        headroom_bytes: what is left next to the highest reserved peak and the most outside the
            allocator; negative where it does not fit.
        largest_batch: the largest batch that fits; 0 if none does.
        is_derived: whether it follows from the steps at two batches, else from a search.

    """

    fit: GpuFit
    headroom_bytes: int
    largest_batch: int
    is_derived: bool = True


def gpu_table(
    build: Callable[[], nn.Module],
    batch: int,
    *,
    gpus: Iterable[Gpu] = tuple(GPUS.values()),
    allocator_settings: str = "",
    cudnn: bool = True,
    **asked: Any,
) -> tuple[GpuRow, ...]:
    """Return a row for each of ``gpus``, the smallest memory first.

    Args:
        build: returns the network, as for ``harness.predict``.
        batch: examples in a step.
        gpus: GPUs of known size.
        allocator_settings: as in PYTORCH_ALLOC_CONF.
        cudnn: whether convolutions are cuDNN's.
        asked: further arguments of ``harness.predict``: input_shape, inputs, optimizer, ...

    """
    asked["cudnn"] = cudnn
    sized = [gpu.in_environment() for gpu in gpus if gpu.total_bytes is not None]
    traced = partial(TracedSteps, build, asked=asked)

    def search(gpu: Gpu, memory: GpuMemory) -> LargestBatch:
        return Search(memory, traced(gpu), batch).largest()

    first = traced(sized[0])
    first.at(batch)
    families: dict[str, list[Gpu]] = {}
    for gpu in sized:
        families.setdefault(_family(gpu) if first.uses_attention else "", []).append(gpu)
    rows: list[GpuRow] = []
    for members in families.values():
        steps = first if sized[0] in members else traced(members[0])
        rows += Family(steps, batch, members, allocator_settings, search).rows()
    return tuple(sorted(rows, key=lambda row: row.fit.total_bytes))


class Family:
    """GPUs that run the same kernels."""

    def __init__(
        self,
        steps: TracedSteps,
        batch: int,
        gpus: Sequence[Gpu],
        settings: str,
        search: Callable[[Gpu, GpuMemory], LargestBatch],
    ) -> None:
        self._steps = steps
        self._batch = batch
        self._memories = {gpu: _memory(gpu, settings) for gpu in gpus}
        self._search = search
        self._peaks: dict[tuple[int, int | None], tuple[RecordedSteps, cuda_metrics.OnCuda]] = {}
        """By what GPUs differ in: the workspaces, and the memory that settings are shares of."""

    def rows(self) -> Iterator[GpuRow]:
        """Yield a row for each GPU."""
        at, unit = self._steps.at, self._steps.unit
        anchors = (self._batch, 2 * self._batch + unit)  # one of them odd
        steps = AffineSteps.through(*((batch, at(batch)) for batch in anchors), unit=unit)
        found = {} if steps is None else self._derived(steps)
        holds = False
        for gpu in sorted(self._memories, key=lambda gpu: found.get(gpu) or 0, reverse=True):
            largest = found.get(gpu) or 0
            holds = holds or (steps is not None and self._describes(steps, largest + unit))
            is_derived = holds or (gpu in found and self._is_proven(gpu, largest))
            if not is_derived:
                largest = self._search(gpu, self._memories[gpu]).batch or 0
            yield self._row(gpu, largest, is_derived=is_derived)

    def _derived(self, steps: AffineSteps) -> dict[Gpu, int | None]:
        """Return the largest batch of each GPU by the allocator model."""
        found: dict[Gpu, int | None] = {}
        short = 0  # what fragmentation costs is nearly the same everywhere
        for gpu, memory in self._memories.items():
            own = _on(steps, gpu)
            full = own.fills(memory.total_bytes - memory.outside_bytes[1])
            guess = max(full - short, 1)
            found[gpu] = derived_largest(memory, own, low=steps.unit, high=HIGHEST, guess=guess)
            short = full - (found[gpu] or full)
        return found

    def _is_proven(self, gpu: Gpu, batch: int) -> bool:
        """Return whether predictions say that a batch fits and the next does not."""
        memory, unit = self._memories[gpu], self._steps.unit
        fits = [
            memory.surely_runs(partial(play, _script(self._steps.at(size), gpu)))
            for size in (batch + unit, batch)
            if size
        ]
        return fits in ([False, True], [False])

    def _describes(self, steps: AffineSteps, batch: int) -> bool:
        try:
            predicted = self._steps.at(batch)
        except ModulePredictionError:  # a network may refuse few examples
            return True
        return peaks_of(steps.at(batch)) == peaks_of(predicted)

    def _row(self, gpu: Gpu, largest: int, *, is_derived: bool) -> GpuRow:
        memory = self._memories[gpu]
        workspace = workspace_bytes(gpu.capability, gpu.workspace_config)
        alike = workspace, gpu.total_bytes if memory.settings else None
        if alike not in self._peaks:
            script = _script(self._steps.at(self._batch), gpu)
            self._peaks[alike] = script, cuda_metrics.peaks_on(script, gpu, memory.settings)
        script, found = self._peaks[alike]
        is_small = memory.holds(found.ranges["reserved_peak_bytes"][1])
        verdict = FITS if is_small else memory.verdict(partial(play, script))
        fit = cuda_metrics.verdict_on_gpu(memory, found, verdict)
        room = memory.total_bytes - memory.outside_bytes[1]
        return GpuRow(
            fit=fit,
            headroom_bytes=room - fit.reserved_peak_bytes[1],
            largest_batch=largest,
            is_derived=is_derived,
        )


def _memory(gpu: Gpu, settings: str) -> GpuMemory:
    memory = cuda_metrics.memory_of_gpu(gpu, settings)
    assert memory is not None, "only GPUs of known size are asked about"
    return memory


def _on(steps: AffineSteps, gpu: Gpu) -> AffineSteps:
    """Return the steps with the workspaces of ``gpu``."""
    return steps.resized(WORKSPACE, workspace_bytes(gpu.capability, gpu.workspace_config))


def _script(trace: Trace, gpu: Gpu) -> RecordedSteps:
    """Return the steps with the workspaces of ``gpu``."""
    size = workspace_bytes(gpu.capability, gpu.workspace_config)
    events = [
        event._replace(size_bytes=size if event.size_bytes > 0 else -size)
        if event.operator == WORKSPACE
        else event
        for event in trace.events
    ]
    kept = size * sum(event.operator == WORKSPACE for event in trace.events) * are_kept()
    return RecordedSteps(Trace(events, steps=trace.steps), kept)


def _family(gpu: Gpu) -> str:
    """Return which GPUs choose the same attention kernels."""
    if gpu.capability < (8, 0):
        return f"before Ampere, {gpu.capability >= (7, 0)}"
    return (
        "little shared memory" if gpu.capability[1] in (6, 9) or gpu.capability >= (12, 0) else ""
    )
