"""A test that ran on a pretended GPU."""

from typing import Literal

from msgspec import Struct

Ended = Literal["passed", "failed", "skipped", "refused"]


class RanTest(Struct, frozen=True, kw_only=True):
    """One test on a pretended GPU.

    Attributes:
        name: as its runner calls it.
        outcome: ``refused`` if it was decided by values that nobody knows.
        why: the last line of what it raised, or the line that decided.
        requested_peak_bytes: most bytes requested while it allocated, in the process of all tests
            or in one that it started; None if it allocated nothing.
        seconds: how long it took.
        uses_values: whether it used values that nobody knows, if only in PyTorch's own code; a test
            that does passes only if it passes with other values, too.
    """

    name: str
    outcome: Ended
    why: str | None = None
    requested_peak_bytes: int | None = None
    seconds: float = 0.0
    uses_values: bool = False
