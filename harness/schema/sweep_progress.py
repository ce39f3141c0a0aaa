"""Progress of a sweep, for whoever shows it."""

from collections.abc import Sequence
from typing import Protocol


class Progress(Protocol):
    """Shows a sweep while it runs; shows nothing of what is not overridden."""

    def begin(self, experiment: str, *, cells: int, done: int, notes: Sequence[str]) -> None:
        """Say that a sweep of ``cells`` begins, of which ``done`` are saved already."""
        del experiment, cells, done, notes

    def cell(self, description: str, *, left: int, seconds_left: float | None) -> None:
        """Say how a cell ended, how many are left and about how long they will take."""
        del description, left, seconds_left
