"""A test that ran on a pretended GPU."""

from typing import Literal

from msgspec import Struct

Ended = Literal["passed", "failed", "skipped", "refused"]


class RanTest(Struct, frozen=True, kw_only=True):
    """One test on a pretended GPU.

    Attributes:
        name: name of the test in its runner.
        outcome: outcome of the test; ``refused`` if unknown values decided it.
        why: last line of its error, or the line that decided.
        requested_peak_bytes: most bytes requested while it allocated, in the process of all tests
            or in a process that it started; None if it allocated nothing.
        seconds: duration of the test.
        uses_values: whether the test used unknown values, even if only in PyTorch's own code. It
            then passes only if it passes with other values, too.
    """

    name: str
    outcome: Ended
    why: str | None = None
    requested_peak_bytes: int | None = None
    seconds: float = 0.0
    uses_values: bool = False
