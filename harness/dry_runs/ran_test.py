"""Data type for a test that ran on a pretended GPU."""

from typing import Final, Literal

from msgspec import Struct

Ended = Literal["passed", "failed", "skipped", "not known"]
NOT_KNOWN: Final = "not known"


class RanTest(Struct, frozen=True, kw_only=True):
    """One test that ran on a pretended GPU.

    Attributes:
        name: name of the test in pytest or unittest.
        outcome: outcome of the test; ``not known`` if the outcome depends on unknown values.
        why: last line of the test's error, or the reason for ``not known``.
        requested_peak_bytes: peak of requested bytes during the test, in any process of the test;
            None without allocations.
        seconds: duration of the test, in seconds.
        uses_values: whether the test used unknown values, including uses in PyTorch's own code. A
            test with unknown values passes only if it also passes with other values.
    """

    name: str
    outcome: Ended
    why: str | None = None
    requested_peak_bytes: int | None = None
    seconds: float = 0.0
    uses_values: bool = False
