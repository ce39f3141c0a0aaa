"""Verdicts on GPUs of one kind, and the largest batch that fits: by running the step."""

from collections.abc import Sequence

from harness.measurement.process.outcome import ForkFailedError
from harness.planning.step_bench import ENDLESS_BYTES, Bench, Need, TooLargeError
from harness.prediction.gpu.catalogue import OUTSIDE_BYTES, Gpu
from harness.prediction.largest_value import HIGHEST, largest_value, line_meets
from harness.schema.memory_fit import Fit, GpuFit, fit_of


class StepSearch:
    """Answers about a step on one bench; each try is made once.

    A batch is a multiple of ``unit``. ``needs`` are known peaks by their batch.
    """

    def __init__(self, bench: Bench, batch: int, unit: int = 1, settings: str = "") -> None:
        self._bench = bench
        self._batch = batch
        self._unit = unit
        self._settings = settings
        self.needs: dict[int, Need] = {}
        self._completed: dict[tuple[int, int], bool] = {}

    def fits(self, gpus: Sequence[Gpu], *, find_largest: bool = False) -> list[GpuFit]:
        """Return the verdicts on GPUs of one kind and of known memory."""
        return [self._fit(gpu, find_largest) for gpu in gpus]

    def _fit(self, gpu: Gpu, find_largest: bool) -> GpuFit:
        need = self.need(self._batch)
        verdict = self._verdict(gpu, self._batch)
        return GpuFit(
            gpu=gpu.name,
            capability=".".join(map(str, gpu.capability)),
            total_bytes=gpu.total_bytes or 0,
            outside_bytes=OUTSIDE_BYTES,
            allocator_settings=self._settings,
            allocated_peak_bytes=(need.allocated_bytes, need.allocated_bytes),
            reserved_peak_bytes=(need.reserved_bytes, need.reserved_bytes),
            verdict=verdict,
            is_searched=find_largest,
            largest_batch=self._largest(_room(gpu), verdict == "fits") if find_largest else None,
        )

    def need(self, batch: int) -> Need:
        """Return the peaks at a batch, where memory never ends."""
        if batch not in self.needs:
            self.needs[batch] = self._bench.need(batch)
        return self.needs[batch]

    def _verdict(self, gpu: Gpu, batch: int) -> Fit:
        surely = self._completes(batch, _room(gpu))
        return fit_of(
            in_every_case=surely,
            in_some_case=surely or self._completes(batch, _room(gpu, at_best=True)),
        )

    def _completes(self, batch: int, memory_bytes: int) -> bool:
        """Return whether the step completes within so much memory."""
        known = self.needs.get(batch)
        if known is not None:
            if known.most_allocated_bytes > memory_bytes and not known.notes:
                return False  # cuDNN would be asked for engines of smaller workspaces
            if known.most_reserved_bytes <= memory_bytes and not self._settings:
                return True  # with settings the allocator may act before its memory is full
        question = batch, memory_bytes
        if question not in self._completed:
            self._completed[question] = self._bench.completes(batch, memory_bytes)
        return self._completed[question]

    def _largest(self, room: int, fits: bool) -> int | None:
        """Return a batch that fits where the next one does not; None where none does."""
        unit, batch = self._unit, self._batch
        low = batch if fits else self._smallest()
        if low > batch:
            return None
        largest = largest_value(
            lambda count: self._completes(count * unit, room),
            low=low // unit,
            high=HIGHEST // unit,
            guess=self._guess(batch, room) // unit,
        )
        return None if largest is None else largest * unit

    def _smallest(self) -> int:
        """Return one example in each micro-batch, or two where batch normalization refuses one."""
        try:
            self.need(self._unit)
        except ForkFailedError:
            return 2 * self._unit
        return self._unit

    def _guess(self, batch: int, room: int) -> int:
        """Return where a line through the allocated bytes of two batches meets the memory."""
        unit = self._unit
        low, high = batch, 2 * max(batch, 2 * unit)
        while self._allocated(high) <= min(self._allocated(low), room) and high < HIGHEST:
            high = min(8 * high, HIGHEST // unit * unit)  # a small batch does not decide the peak
        for _ in range(2):  # again next to the answer, where kernels are those of its size
            guess = self._meets(low, high, room)
            near = guess - guess % unit
            if near <= unit or near in (low, high) or near in self.needs:
                return guess
            low, high = sorted((near, high if abs(high - near) < abs(low - near) else low))
        return self._meets(low, high, room)

    def _allocated(self, batch: int) -> int:
        try:
            return self.need(batch).most_allocated_bytes
        except TooLargeError:
            return ENDLESS_BYTES

    def _meets(self, low: int, high: int, room: int) -> int:
        before, after = self._allocated(low), self._allocated(high)
        return min(max(1, line_meets(room, (low, before), (high, after))), HIGHEST)


def _room(gpu: Gpu, *, at_best: bool = False) -> int:
    """Return the memory of the allocator, with the most outside it, or ``at_best`` the least."""
    return (gpu.total_bytes or 0) - OUTSIDE_BYTES[not at_best]
