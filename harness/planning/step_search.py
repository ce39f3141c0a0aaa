"""Checks whether a step fits on GPUs of one kind, and finds the largest batch that fits."""

import time
from collections.abc import Sequence

from harness.dry_runs.memory_limit import ENDLESS_BYTES
from harness.planning.step_needs import Need, TooLargeError, Tries
from harness.prediction.gpu.catalogue import OUTSIDE_BYTES, Gpu
from harness.prediction.largest_batch import NOT_SEARCHED, Largest, largest_batch
from harness.processes.outcome import ForkFailedError
from harness.schema.errors import UnsupportedError
from harness.schema.memory_fit import Fit, GpuFit, fit_of

WOULD_COMPILE = "the largest batch is not searched: each batch would be compiled anew; give --batch"

SEARCH_SECONDS = 120.0
"""Time limit of a search for the largest batch, in seconds."""


class StepSearch:
    """Runs a step at several batches and memory limits, and caches each result.

    Each batch is a multiple of ``unit``. ``least`` is the smallest batch that runs, or None if it
    is unknown. ``needs`` maps each batch that was run to its memory peaks. ``notes`` contains the
    reasons why searches ended early. ``seconds`` limits the time of all searches together.
    """

    def __init__(
        self,
        bench: Tries,
        batch: int,
        unit: int = 1,
        settings: str = "",
        seconds: float = SEARCH_SECONDS,
        *,
        least: int | None = None,
    ) -> None:
        self._bench = bench
        self._seconds = self._left = seconds
        self._batch = batch
        self._unit = unit
        self._least = least
        self._settings = settings
        self.needs: dict[int, Need] = {}
        self.notes: list[str] = []
        self._completed: dict[tuple[int, int], bool] = {}

    def fits(self, gpus: Sequence[Gpu], *, find_largest: bool = False) -> list[GpuFit]:
        """Check whether the step fits on each GPU; the GPUs differ only in memory size."""
        return [self._fit(gpu, find_largest) for gpu in gpus]

    def _fit(self, gpu: Gpu, find_largest: bool) -> GpuFit:
        need = self.need(self._batch)
        verdict = self._verdict(gpu, self._batch)
        largest = NOT_SEARCHED
        if need.compiles and find_largest:
            find_largest = False
            self.notes += [WOULD_COMPILE] * (WOULD_COMPILE not in self.notes)
        if find_largest:
            largest = self._largest(gpu)
        known = sorted(self.needs.items()) if find_largest else []
        return GpuFit(
            gpu=gpu.name,
            capability=".".join(map(str, gpu.capability)),
            total_bytes=gpu.total_bytes or 0,
            outside_bytes=OUTSIDE_BYTES,
            allocator_settings=self._settings,
            allocated_peak_bytes=(need.allocated_bytes, need.allocated_bytes),
            reserved_peak_bytes=(need.reserved_bytes, need.reserved_bytes),
            verdict=verdict,
            is_searched=largest.is_found,
            largest_batch=largest.batch,
            tried=tuple((at, need.most_reserved_bytes) for at, need in known),
        )

    def _largest(self, gpu: Gpu) -> Largest:
        """Find the largest batch; the result has no batch if no batch fits or time runs out."""
        room = _room(gpu)
        begin = time.monotonic()
        self._bench.end_at(begin + self._left)
        try:
            largest = largest_batch(
                self, room, batch=self._batch, unit=self._unit, least=self._least
            )
            self.notes += [] if largest.is_found else [largest.note(gpu.name)]
        except (TimeoutError, UnsupportedError) as error:
            largest = NOT_SEARCHED
            known = {} if self._settings else self.needs  # as in ``completes``
            fitting = [at for at, need in known.items() if need.most_reserved_bytes <= room]
            fitting += [
                at for (at, limit), fits in self._completed.items() if fits and limit <= room
            ]
            most = f"{max(fitting):,} fits" if fitting else "none that was tried fits"
            why = (
                str(error)
                or f"the search ended after {self._seconds:.0f} s, larger ones take too long to try"
            )
            self.notes.append(f"largest batch on {gpu.name}: {most}; {why}")
        finally:
            self._bench.end_at(None)
            self._left -= min(self._left, time.monotonic() - begin)
        return largest

    def need(self, batch: int) -> Need:
        """Return the memory peaks of a batch, without a memory limit."""
        if batch not in self.needs:
            self.needs[batch] = self._bench.need(batch)
        return self.needs[batch]

    def _verdict(self, gpu: Gpu, batch: int) -> Fit:
        surely = self.completes(batch, _room(gpu))
        return fit_of(
            in_every_case=surely,
            in_some_case=surely or self.completes(batch, _room(gpu, at_best=True)),
        )

    def peak(self, batch: int) -> int | None:
        """Return the allocated peak; ``ENDLESS_BYTES`` if no GPU suffices, None after an error."""
        try:
            return self.need(batch).most_allocated_bytes
        except TooLargeError:
            return ENDLESS_BYTES
        except ForkFailedError:
            return None

    def completes(self, batch: int, memory_bytes: int) -> bool:
        """Check whether the step completes within the given memory."""
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


def _room(gpu: Gpu, *, at_best: bool = False) -> int:
    """Return the memory that the allocator can surely use; with ``at_best``, can possibly use."""
    return (gpu.total_bytes or 0) - OUTSIDE_BYTES[not at_best]
