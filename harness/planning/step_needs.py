"""The memory that a try of a step needs, as plain data, and the interface of a bench."""

from typing import NamedTuple, Protocol

from harness.dry_runs.memory_limit import ENDLESS_BYTES
from harness.schema.errors import UnsupportedError
from harness.schema.units import format_bytes


class TooLargeError(UnsupportedError):
    """The step needs more memory than the largest GPU that can be pretended."""

    def __init__(self) -> None:
        super().__init__(f"the step needs more than {format_bytes(ENDLESS_BYTES)}")


class Need(NamedTuple):
    """Peaks of the CUDA allocator's counters, in bytes."""

    allocated_bytes: int
    """Peak of allocated bytes over the measured step."""
    reserved_bytes: int
    most_allocated_bytes: int
    """Peak of allocated bytes over the build and all steps."""
    most_reserved_bytes: int
    notes: tuple[str, ...] = ()
    """Facts on the libraries that returned sizes."""
    compiles: bool = False
    """True if kernels were compiled for the step, which takes seconds."""


class Tries(Protocol):
    """Interface that tries a step at any batch and within any memory."""

    def need(self, batch: int) -> Need:
        """Return the peaks with unlimited memory; raise TooLargeError above the largest GPU."""

    def completes(self, batch: int, memory_bytes: int) -> bool:
        """Return whether the build and the steps complete within the given memory."""

    def end_at(self, deadline: float | None) -> None:
        """Make later tries raise TimeoutError at ``deadline``, a time of ``time.monotonic``."""
