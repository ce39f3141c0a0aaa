"""The peaks of the smaller last batch of an epoch, and of the full batch after it."""

from msgspec import Struct

from harness.schema.memory_fit import LowHigh
from harness.schema.metrics import Bytes
from harness.schema.units import format_bytes


class StepPeaks(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Peaks of the CUDA allocator's counters in one step."""

    requested_peak_bytes: Bytes
    allocated_peak_bytes: Bytes
    active_peak_bytes: Bytes
    reserved_peak_bytes: Bytes


class LastBatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The last, smaller batch of an epoch, and the full batch after it.

    Attributes:
        examples: number of training examples.
        rows: rows of the last batch.
        steps_before: number of full steps that were simulated before it.
        partial_step: peaks of the smaller step.
        next_step: peaks of the full step after it.
        reserved_peak_bytes: peak of the reserved bytes over all steps, lowest and highest.
        reserved_rise_bytes: how much of it the last two steps add, lowest and highest.
    """

    examples: int
    rows: int
    steps_before: int
    partial_step: StepPeaks
    next_step: StepPeaks
    reserved_peak_bytes: LowHigh
    reserved_rise_bytes: LowHigh

    def __str__(self) -> str:
        low, high = (format_bytes(size) for size in self.reserved_rise_bytes)
        rise = low if low == high else f"{low} to {high}"
        return f"the last batch of {self.rows:,} rows and the step after it reserve {rise} more"
