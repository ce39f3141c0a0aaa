"""Defines the memory peaks of a step, and an interface for running the step."""

from typing import NamedTuple, Protocol

from harness.dry_runs.memory_limit import ENDLESS_BYTES
from harness.schema.errors import UnsupportedError
from harness.schema.units import format_bytes


class TooLargeError(UnsupportedError):
    """The step needs more memory than the largest GPU that can be pretended."""

    def __init__(self) -> None:
        super().__init__(f"the step needs more than {format_bytes(ENDLESS_BYTES)}")


class Need(NamedTuple):
    """Memory peaks of a step in the CUDA allocator, in bytes."""

    allocated_bytes: int
    """Peak of allocated bytes during the measured step."""
    reserved_bytes: int
    most_allocated_bytes: int
    """Peak of allocated bytes while the network is built and all steps run."""
    most_reserved_bytes: int
    notes: tuple[str, ...] = ()
    """Notes on libraries that chose the size of a block, e.g. cuDNN for a workspace."""
    compiles: bool = False
    """True if kernels were compiled for the step; compilation takes seconds."""


class Tries(Protocol):
    """Interface that runs a step at any batch and memory limit."""

    def need(self, batch: int) -> Need:
        """Return the memory peaks of a batch; raise TooLargeError if no GPU is large enough."""

    def completes(self, batch: int, memory_bytes: int) -> bool:
        """Check whether building the network and running the steps fits into ``memory_bytes``."""

    def end_at(self, deadline: float | None) -> None:
        """Make later runs raise TimeoutError when ``time.monotonic()`` reaches ``deadline``."""
