"""A network's steps at any batch, derived from those at two.

Sizes of tensors are affine in the batch. What a kernel allocates for itself may not be: it comes
in whole tiles, has thresholds, or is another kernel's for many rows. Such a size is rounded down to
a whole number of bytes, and whoever derives steps holds them against a prediction at a third batch.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

from harness.schema.events import Event, Trace


class _Size(NamedTuple):
    """Bytes at the first batch, and how many more at the second; both negative where freed."""

    first: int
    rise: int


@dataclass(frozen=True)
class AffineSteps:
    """The events of some steps, the size of each as a function of the batch.

    Attributes:
        events: those at the first batch.
        sizes: of each event.
        steps: number of the last step.
        unit: examples by which a batch grows.
        first: the first batch, in units.
        run: from the first batch to the second, in units.

    """

    events: tuple[Event, ...]
    sizes: tuple[_Size, ...]
    steps: int
    unit: int
    first: int
    run: int

    @classmethod
    def through(
        cls, first: tuple[int, Trace], second: tuple[int, Trace], *, unit: int = 1
    ) -> "AffineSteps | None":
        """Return the steps through those at two batches; None where they have other events.

        Args:
            first: a batch and its steps.
            second: a larger one.
            unit: both batches are multiples of it, as are those that are asked for.

        """
        (low, before), (high, after) = first, second
        if low >= high or len(before.events) != len(after.events):
            return None
        sizes = []
        for one, other in zip(before.events, after.events, strict=True):
            if one._replace(size_bytes=0) != other._replace(size_bytes=0):
                return None
            sizes.append(_Size(one.size_bytes, other.size_bytes - one.size_bytes))
        events, steps = tuple(before.events), before.measured_step
        return cls(events, tuple(sizes), steps, unit, low // unit, (high - low) // unit)

    def at(self, batch: int) -> Trace:
        """Return the steps with ``batch`` examples."""
        count, run = batch // self.unit - self.first, self.run
        sizes = [
            max(first + rise * count // run, 1)
            if first > 0
            else min(first - (-rise * count) // run, -1)
            for first, rise in self.sizes
        ]
        events = [
            Event(step, phase, operator, module, category, size, address)
            for (step, phase, operator, module, category, _, address), size in zip(
                self.events, sizes, strict=True
            )
        ]
        return Trace(events, steps=self.steps)

    def resized(self, operator: str, size_bytes: int) -> "AffineSteps":
        """Return the steps with every block of ``operator`` of that size, whatever the batch."""
        sizes = [
            _Size(size_bytes if event.size_bytes > 0 else -size_bytes, 0)
            if event.operator == operator
            else size
            for event, size in zip(self.events, self.sizes, strict=True)
        ]
        return replace(self, sizes=tuple(sizes))

    def fills(self, room: int) -> int:
        """Return the batch at which what is requested fills ``room``, roughly."""
        one, other = (self.at(unit * self.unit) for unit in (self.first, self.first + self.run))
        fixed, slope = one.peak_live_bytes, other.peak_live_bytes - one.peak_live_bytes
        if slope <= 0:
            return 1 << 24
        return self.unit * max(1, self.first + (room - fixed) * self.run // slope)
