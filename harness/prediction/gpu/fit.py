"""Does a workload fit on a card, and how far could its batch grow: by playing it there.

Two things are not known beforehand: where the driver places segments, which decides between
free blocks of equal size, and what lies outside the allocator. So a workload fits where it runs
under every address policy beside the most that may lie outside; it does not fit where it runs
under none beside the least; anything between is a close call.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from harness.allocator import AllocatorConfig, CachingAllocator, OutOfMemoryError, policies_to_try
from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.gpu.simulation import Script, play
from harness.prediction.mlp.cuda_trace import CudaSteps, most_rows
from harness.prediction.mlp.largest_fit import largest
from harness.prediction.mlp.last_batch import Epoch
from harness.schema.workload import Workload

FITS, DOES_NOT_FIT, CLOSE_CALL = "fits", "does not fit", "close call"


@dataclass(frozen=True, kw_only=True)
class Card:
    """A card with the allocator's settings, as ``PYTORCH_ALLOC_CONF`` says them.

    Attributes:
        outside_bytes: the least and the most that lies outside the allocator.

    """

    gpu: Gpu
    settings: str
    total_bytes: int
    outside_bytes: tuple[int, int]

    def config(self, outside_bytes: int) -> AllocatorConfig:
        """Return the allocator's configuration beside ``outside_bytes``."""
        return AllocatorConfig.from_settings(
            self.settings, total_bytes=self.total_bytes, outside_bytes=outside_bytes
        )

    def verdict(self, workload: Workload | Script, epoch: Epoch | None = None) -> str:
        """Return fits, does not fit, or close call; with ``epoch`` of its steps too."""
        if self.surely_runs(workload, epoch):
            return FITS
        return CLOSE_CALL if self.may_run(workload, epoch) else DOES_NOT_FIT

    def surely_runs(self, workload: Workload | Script, epoch: Epoch | None = None) -> bool:
        """Return whether every address policy runs beside the most that may lie outside."""
        return all(self._runs(workload, self.outside_bytes[1], epoch))

    def may_run(self, workload: Workload | Script, epoch: Epoch | None = None) -> bool:
        """Return whether any address policy runs beside the least."""
        return any(self._runs(workload, self.outside_bytes[0], epoch))

    def _runs(
        self, workload: Workload | Script, outside_bytes: int, epoch: Epoch | None = None
    ) -> Iterator[bool]:
        """Yield for each address policy whether the steps run to their end."""
        config = self.config(outside_bytes)
        script = CudaSteps(workload, self.gpu) if isinstance(workload, Workload) else workload
        for policy in policies_to_try(config):
            try:
                play(script, CachingAllocator(config, addresses=policy()))
                if epoch is not None:
                    epoch.play(CachingAllocator(config, addresses=policy()))
            except OutOfMemoryError:
                yield False
            else:
                yield True

    def largest_batch(self, workload: Workload, *, surely: bool = True) -> int | None:
        """Return a batch that runs where one more does not; None where not the smallest runs.

        The search begins where the bytes requested meet the card, close above the answer, and
        goes on with one address policy; the others are asked where it ends.

        Args:
            workload: its batch is varied.
            surely: whether it has to run surely, or only may run.

        """
        runs = self.surely_runs if surely else self.may_run
        beside = self.outside_bytes[surely]
        low, most = workload.least_batch, most_rows(workload)

        def fits(batch: int) -> bool:
            return batch <= most and runs(workload.replace(batch=batch))

        def fits_so(batch: int) -> bool:
            return batch <= most and next(self._runs(workload.replace(batch=batch), beside))

        if not fits(low):
            return None
        room = self.total_bytes - self.outside_bytes[0]
        guess = self.most_by_requests(workload, room)
        if fits_so(low):
            guess = boundary(fits_so, low, guess)
        return boundary(fits, low, guess)

    def most_by_requests(self, workload: Workload, room_bytes: int) -> int:
        """Return the largest batch whose requests alone leave room."""

        def requested(batch: int) -> int:
            return max(CudaSteps(workload.replace(batch=batch), self.gpu).trace(2).live_bytes)

        low, most = workload.least_batch, most_rows(workload)
        return largest(requested, room_bytes, low=low, high=most) or low


def boundary(holds: Callable[[int], bool], low: int, guess: int) -> int:
    """Return a number from ``low`` on that holds where the next does not; ``low`` holds.

    From ``guess`` steps that double lead up or down until the bracket is closed; then it is
    halved.
    """
    step = 1
    if guess <= low or holds(guess):
        low = max(low, guess)
        while holds(low + step):
            low, step = low + step, 2 * step
        fails = low + step
    else:
        fails = guess
        while fails - step > low and not holds(fails - step):
            fails, step = fails - step, 2 * step
        low = max(low, fails - step)
    while fails - low > 1:
        middle = (low + fails) // 2
        if holds(middle):
            low = middle
        else:
            fails = middle
    return low
