"""Writes the size and the line of each allocation to a file, and compares the files of two runs.

A line of the file has the size in bytes and the number of the place in the code, and the place
itself when its number is new. So two runs have equal files as long as they allocate alike.
"""

from itertools import zip_longest
from pathlib import Path

from harness.dry_runs.call_sites import CallSite
from harness.dry_runs.dry_run_report import Parting, is_line


class AllocationStream:
    """Collects the allocations of one device, and appends them to a file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._numbers: dict[CallSite, int] = {}
        self._places: dict[str, int] = {}
        self._lines: list[str] = []

    def add(self, size: int, site: CallSite) -> None:
        """Add an allocation."""
        number = self._numbers.get(site)
        new = ""
        if number is None:
            place = f"{site.stack[0].file}:{site.stack[0].line}" if site.stack else site.place
            new = "" if place in self._places else f" {place}"
            number = self._numbers[site] = self._places.setdefault(place, len(self._places))
        self._lines.append(f"{size} {number}{new}\n")

    def write(self) -> None:
        """Append the collected allocations to the file."""
        with self._file.open("a", errors="backslashreplace") as file:
            file.writelines(self._lines)
        self._lines.clear()
        self._numbers.clear()  # each fold has call sites of its own


def parting(one: Path, other: Path) -> Parting | None:
    """Return the first difference between two files; None if they are equal."""
    places: dict[str, str] = {}

    def place(line: str) -> str:
        _, _, rest = line.rstrip("\n").partition(" ")
        number, _, new = rest.partition(" ")
        return places.setdefault(number, new) if number else ""

    before = ""
    with one.open() as first, other.open() as second:
        for lines in zip_longest(first, second, fillvalue=""):
            if lines[0] != lines[1]:
                known = dict(places)
                way = place(lines[0])
                places = known
                return Parting(after=before, ways=(way, place(lines[1])))
            if is_line(reached := place(lines[0])):
                before = reached
    return None
