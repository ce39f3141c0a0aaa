"""A network's steps at any batch, derived from those at two.

Sizes of tensors are affine in the batch. What a kernel allocates for itself may not be: a
staging buffer has thresholds, and a kernel may be another one for many rows. So whoever derives
steps holds them against a prediction at a third batch.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

from harness.schema.events import Event, Trace


class _Size(NamedTuple):
    """Bytes at the batch 0, and for each example."""

    base: int
    slope: int


@dataclass(frozen=True)
class AffineSteps:
    """The events of some steps, the size of each as a function of the batch.

    Attributes:
        events: those at one batch.
        sizes: of each event.
        steps: number of the last step.
        unit: examples by which a batch grows.

    """

    events: tuple[Event, ...]
    sizes: tuple[_Size, ...]
    steps: int
    unit: int

    @classmethod
    def through(
        cls, first: tuple[int, Trace], second: tuple[int, Trace], *, unit: int = 1
    ) -> "AffineSteps | None":
        """Return the steps through those at two batches; None where their events differ.

        Args:
            first: a batch and its steps.
            second: another one.
            unit: both batches are multiples of it, as are those that are asked for.

        """
        (low, before), (high, after) = first, second
        run = (high - low) // unit
        if run == 0 or len(before.events) != len(after.events):
            return None
        sizes = []
        for one, other in zip(before.events, after.events, strict=True):
            slope, rest = divmod(other.size_bytes - one.size_bytes, run)
            if rest or one._replace(size_bytes=0) != other._replace(size_bytes=0):
                return None
            sizes.append(_Size(one.size_bytes - slope * (low // unit), slope))
        return cls(tuple(before.events), tuple(sizes), before.measured_step, unit)

    def at(self, batch: int) -> Trace:
        """Return the steps with ``batch`` examples."""
        count = batch // self.unit
        events = [
            Event(step, phase, operator, module, category, base + slope * count, address)
            for (step, phase, operator, module, category, _, address), (base, slope) in zip(
                self.events, self.sizes, strict=True
            )
        ]
        return Trace(events, steps=self.steps)

    def describes(self, batch: int, trace: Trace) -> bool:
        """Return whether ``trace``, predicted at ``batch``, has the derived events."""
        return self.at(batch).events == list(trace.events)

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
        events = [
            event._replace(size_bytes=size.slope)
            for event, size in zip(self.events, self.sizes, strict=True)
        ]
        growing = Trace(events, steps=self.steps)
        slope = max(growing.live_bytes, default=0)
        fixed = self.at(self.unit).peak_live_bytes - slope
        return self.unit * max(1, (room - fixed) // slope) if slope > 0 else 1 << 24
