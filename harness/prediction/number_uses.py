"""Interface for listeners to uses of unknown numbers (read from tensors without values)."""

from typing import Final, Protocol


class Uses(Protocol):
    """A listener that is called when a script uses an unknown number."""

    def compared(
        self, place: str, otherwise: bool, *, opposite: bool = False, chooses: bool = False
    ) -> bool:
        """Return the result of a comparison; ``otherwise`` is the result for the assumed number.

        If a run sets the results of comparisons, ``opposite`` inverts the result. With ``chooses``,
        the larger value may become a size (``max(8, length)``), so the assumed number decides.
        """

    def used(self, place: str) -> None:
        """Record that a number read at ``place`` may influence the script."""

    def picked(self, place: str) -> None:
        """Record that ``max`` or a sort compares a number read at ``place`` with a known number."""

    def made(self, number: float) -> None:
        """Record the value of an unknown number, which C code may read."""


LISTENERS: Final[list[Uses]] = []
"""List that contains only the listener that was installed last."""


def used(place: str) -> None:
    """Record that a number read at ``place`` may influence the script."""
    LISTENERS[0].used(place)
