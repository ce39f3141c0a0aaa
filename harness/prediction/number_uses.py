"""Interface of a listener to the uses of unknown numbers."""

from typing import Final, Protocol


class Uses(Protocol):
    """A listener to the uses of unknown numbers."""

    def compared(
        self, place: str, otherwise: bool, *, opposite: bool = False, chooses: bool = False
    ) -> bool:
        """Return the result of a comparison; ``otherwise`` is the number's own result.

        With ``opposite``, the result is false if all decisions are true. With ``chooses``, the
        larger value may become a size, as in ``max(8, length)``, so the result follows the number.
        """

    def used(self, place: str) -> None:
        """Note that a number read at a place may decide something."""

    def picked(self, place: str) -> None:
        """Note that ``max`` or the like takes a number read at a place, or a known number."""

    def made(self, number: float) -> None:
        """Note a number that code in C may get."""


LISTENERS: Final[list[Uses]] = []
"""List of one listener, the listener that was installed last."""


def used(place: str) -> None:
    """Note that a number read at a place may decide something."""
    LISTENERS[0].used(place)
