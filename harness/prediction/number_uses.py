"""Interface of the listener that records how a script uses unknown (not computed) numbers."""

from typing import Final, Protocol


class Uses(Protocol):
    """A listener that is called when a script uses an unknown number."""

    def compared(
        self, place: str, otherwise: bool, *, opposite: bool = False, chooses: bool = False
    ) -> bool:
        """Return the result of a comparison; ``otherwise`` is the result for the assumed number.

        If a run sets the results of comparisons, ``opposite`` inverts them. With ``chooses``, the
        assumed number decides, because the larger number may be a size (``max(8, length)``).
        """

    def used(self, place: str) -> None:
        """Record that a number read at ``place`` may influence the script."""

    def picked(self, place: str) -> None:
        """Record that a number from ``place`` is compared with a known number, e.g. by ``max``."""

    def made(self, number: float) -> None:
        """Record the assumed value of a new unknown number, because C code may read the value."""


LISTENERS: Final[list[Uses]] = []
"""List that contains only the listener that was installed last."""


def used(place: str) -> None:
    """Record that a number read at ``place`` may influence the script."""
    LISTENERS[0].used(place)
