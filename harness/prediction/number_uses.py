"""Listener to the uses of unknown numbers, which everything that follows them reports to."""

from typing import Final, Protocol


class Uses(Protocol):
    """A listener to the uses of unknown numbers."""

    def compared(
        self, place: str, otherwise: bool, *, opposite: bool = False, chooses: bool = False
    ) -> bool:
        """Return the result of a comparison; ``otherwise`` is the result for the number as it is.

        With ``opposite``, it is false if all decisions are true. With ``chooses``, what is
        larger may become a size, as in ``max(8, length)``: the comparison and the number agree.
        """

    def used(self, place: str) -> None:
        """Note that something may be decided by a number read at a place."""

    def picked(self, place: str) -> None:
        """Note that ``max`` or the like takes a number read at a place, or a known number."""

    def made(self, number: float) -> None:
        """Note a number that code in C may be given."""


LISTENERS: Final[list[Uses]] = []
"""All listeners; the last one counts."""


def used(place: str) -> None:
    """Note that something may be decided by a number read at a place."""
    LISTENERS[0].used(place)
