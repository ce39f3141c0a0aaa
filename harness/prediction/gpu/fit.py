"""Fit of steps on a GPU, and the largest batch, simulated by the allocator model.

Two things are not known beforehand: where the driver places segments, which decides between
free blocks of equal size, and how much memory is outside the allocator. So steps fit where they
run under every address policy with the most memory outside, they do not fit where they run
under none with the least, and anything between is a close call.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from harness.allocator import (
    AddressPolicy,
    AllocatorConfig,
    CachingAllocator,
    OutOfMemoryError,
    policies_to_try,
)
from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.largest_value import largest_value
from harness.prediction.paused_collection import collection_paused
from harness.schema.verdict import Fit, fit_of

_Result = TypeVar("_Result")

Run = Callable[[CachingAllocator], object]
"""Plays steps through an allocator; raises OutOfMemoryError where they do not fit."""


def run_once(
    run: Callable[[CachingAllocator], _Result], config: AllocatorConfig, addresses: AddressPolicy
) -> _Result:
    """Return what ``run`` finds with an allocator of its own, of which nothing is left after."""
    allocator = CachingAllocator(config, addresses=addresses)
    with collection_paused():
        try:
            return run(allocator)
        finally:
            allocator.discard()


@dataclass(frozen=True, kw_only=True)
class GpuMemory:
    """A GPU's memory and the settings of the allocator that hands it out."""

    gpu: Gpu
    settings: str
    total_bytes: int
    outside_bytes: tuple[int, int]
    """The least and the most outside the allocator."""

    def config(self, outside_bytes: int) -> AllocatorConfig:
        """Return the allocator's configuration with ``outside_bytes`` outside it."""
        return AllocatorConfig.from_settings(
            self.settings, total_bytes=self.total_bytes, outside_bytes=outside_bytes
        )

    def holds(self, reserved_bytes: int) -> bool:
        """Return whether steps that reserve so little never meet the end of the memory.

        Only without settings: with some, the allocator acts before it is full.
        """
        return not self.settings and reserved_bytes <= self.total_bytes - self.outside_bytes[1]

    def verdict(self, *runs: Run) -> Fit:
        """Return fits, does not fit, or close call, for all of ``runs``."""
        surely = self.surely_runs(*runs)
        return fit_of(in_every_case=surely, in_some_case=surely or self.may_run(*runs))

    def surely_runs(self, *runs: Run) -> bool:
        """Return whether every address policy completes with the most memory outside."""
        return all(self._completed(runs, self.outside_bytes[1]))

    def may_run(self, *runs: Run) -> bool:
        """Return whether any address policy completes with the least memory outside."""
        return any(self._completed(runs, self.outside_bytes[0]))

    def _completed(self, runs: Sequence[Run], outside_bytes: int) -> Iterator[bool]:
        """Yield for each address policy whether all ``runs`` complete."""
        config = self.config(outside_bytes)
        for policy in policies_to_try(config):
            try:
                for run in runs:
                    run_once(run, config, policy())
            except OutOfMemoryError:
                yield False
            else:
                yield True

    def largest_batch(
        self, run_of: Callable[[int], Run], *, low: int, high: int, guess: int, surely: bool = True
    ) -> int | None:
        """Return a batch that runs where the next one does not; None where not even ``low`` does.

        The search begins at ``guess`` and goes on with one address policy; the others are asked
        where it ends.
        """
        completes = self.surely_runs if surely else self.may_run
        outside = self.outside_bytes[surely]

        def fits(batch: int) -> bool:
            return completes(run_of(batch))

        def fits_one_policy(batch: int) -> bool:
            return next(self._completed([run_of(batch)], outside))

        largest = largest_value(fits_one_policy, low=low, high=high, guess=guess)
        if surely and largest is not None and fits(largest):
            return largest  # the next one fails by that policy already
        return largest_value(fits, low=low, high=high, guess=guess if largest is None else largest)
