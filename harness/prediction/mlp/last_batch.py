"""A run over examples that are no multiple of the batch: its last step is a smaller one.

A step of fewer rows cuts other blocks out of the segments that whole steps left, and the whole
step after it may find what it needs cut up. So the whole steps are played, as many as the
examples make up to those after which peaks are steady, then the smaller one, then a whole one.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from harness.allocator import CachingAllocator
from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.gpu.simulation import MOST_STEPS, Peaks, highest, simulate_steps
from harness.prediction.mlp.cuda_trace import CudaSteps
from harness.schema.errors import HarnessError
from harness.schema.workload import Workload


class ExamplesError(HarnessError, ValueError):
    """The workload cannot train on this number of examples."""


class SimulatedEpoch(NamedTuple):
    """The peaks of an epoch's steps under one allocator."""

    before: Peaks
    """Highest of the build and the whole steps."""
    partial: Peaks
    following: Peaks
    """Of the whole step after the partial one."""

    @property
    def reserved_peak_bytes(self) -> int:
        """Highest of all the steps."""
        return highest(self).reserved

    @property
    def reserved_rise_bytes(self) -> int:
        """Bytes that the last two steps reserve beyond all before."""
        return self.reserved_peak_bytes - self.before.reserved


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """Whole steps, a partial one over the first rows of the batch's blocks, a whole one."""

    workload: Workload
    gpu: Gpu
    examples: int

    def __post_init__(self) -> None:
        """Check the examples."""
        batch, least = self.workload.batch, self.workload.least_batch
        if self.examples < batch:
            raise ExamplesError(
                f"examples must be at least one batch ({batch}), got {self.examples}"
            )
        if 0 < self.rows < least:
            rule = f"leave a last batch of at least {least} rows"
            raise ExamplesError(
                f"examples must {rule}, got {self.examples} ({self.rows} rows left)"
            )

    @property
    def rows(self) -> int:
        """Rows of the partial step; 0 where there is none."""
        return self.examples % self.workload.batch

    @property
    def steps_before(self) -> int:
        """Whole steps played before the partial one."""
        return min(self.examples // self.workload.batch, MOST_STEPS + 1)

    @cached_property
    def script(self) -> CudaSteps:
        """Return the events of the build and of the steps."""
        partial = self.steps_before + 1
        return CudaSteps(self.workload, self.gpu, rows_of={partial: self.rows})

    def simulate(self, allocator: CachingAllocator) -> SimulatedEpoch:
        """Play build and steps."""
        phases = simulate_steps(self.script, allocator, self.steps_before + 2)
        *before, partial, following = (highest(step.values()) for step in phases)
        return SimulatedEpoch(highest(before), partial, following)
