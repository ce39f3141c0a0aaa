"""Two predictions (``harness predict --json``) compared, number by number."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.schema.errors import HarnessError
from harness.schema.units import format_bytes

_LONGEST_BYTES = 64 << 20
_CATEGORIES = "categories_at_peak."


class PredictionFileError(HarnessError, ValueError):
    """A file that holds no prediction."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A number of bytes that differs; None where a prediction does not have it."""

    name: str
    first: int | None
    second: int | None

    def change_bytes(self) -> int:
        """Return how much more the second has."""
        return (self.second or 0) - (self.first or 0)


def compare_predictions(first: Path, second: Path) -> list[Difference]:
    """Return what differs between two files, the largest change first.

    Raises:
        PredictionFileError: a file is no prediction; one line.

    """
    one, two = (dict(_numbers(_read(path), "")) for path in (first, second))
    differences = [
        Difference(name=name, first=one.get(name), second=two.get(name))
        for name in sorted(one.keys() | two.keys())
        if one.get(name) != two.get(name)
    ]
    return sorted(differences, key=lambda each: (-abs(each.change_bytes()), each.name))


def comparison_text(differences: list[Difference]) -> str:
    """Return the differences as a table."""
    if not differences:
        return "the two predictions are equal\n"
    rows = [
        (each.name, _shown(each.first), _shown(each.second), _signed(each.change_bytes()))
        for each in differences
    ]
    heads = ("metric", "first", "second", "change")
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(4)]
    lines = [
        "  ".join([f"{row[0]:<{widths[0]}}", *(f"{row[n]:>{widths[n]}}" for n in (1, 2, 3))])
        for row in (heads, *rows)
    ]
    return "\n".join(lines) + "\n"


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_LONGEST_BYTES))
    except (OSError, ValueError, RecursionError):
        raise PredictionFileError(
            f"{path} is not a prediction that harness predict --json printed"
        ) from None
    if not isinstance(found, dict) or not any(name.endswith("_bytes") for name in found):
        raise PredictionFileError(f"{path} is not a prediction that harness predict --json printed")
    return found


def _numbers(value: Any, name: str) -> Iterator[tuple[str, int]]:
    """Yield every number of bytes by its dotted name; categories are bytes too."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _numbers(each, f"{name}.{key}" if name else str(key))
    elif type(value) is int and (name.endswith("_bytes") or name.startswith(_CATEGORIES)):
        yield name, value


def _shown(size: int | None) -> str:
    return "-" if size is None else format_bytes(size)


def _signed(size: int) -> str:
    return ("+" if size >= 0 else "-") + format_bytes(abs(size))
