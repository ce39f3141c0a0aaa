"""Compares two files of ``harness predict --json`` value by value."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from harness.schema.errors import HarnessError
from harness.schema.record import Outcome
from harness.schema.unique_keys import read_json

Value = int | float | str | None

_LONGEST_BYTES = 64 << 20
_NOT_COMPARED = (
    "command",
    "environment",
    "harness",
    "question",
    "target",
    "wall_seconds",
    "workload_id",
)
"""Keys whose values are not compared, e.g. the environment and the duration of the prediction."""


class PredictionFileError(HarnessError, ValueError):
    """Raised if a file does not contain a prediction."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A value that differs between two predictions; ``first`` or ``second`` is None if missing."""

    name: str
    first: Value
    second: Value

    @property
    def is_bytes(self) -> bool:
        """True if the value is a number of bytes."""
        return _is_bytes(self.name)

    def is_within(self, tolerance: Fraction) -> bool:
        """Return True for a size that changed by at most ``tolerance`` times the first size."""
        if not (self.is_bytes and isinstance(self.first, int) and isinstance(self.second, int)):
            return False
        return abs(self.second - self.first) <= tolerance * self.first

    def change_bytes(self) -> int:
        """Return the second size minus the first size, in bytes; 0 if the values are not sizes."""
        if not self.is_bytes:
            return 0
        first, second = (each if isinstance(each, int) else 0 for each in (self.first, self.second))
        return second - first


@dataclass(frozen=True, kw_only=True)
class PredictionComparison:
    """Differences between two predictions, sorted by bytes, with the largest first."""

    differences: tuple[Difference, ...]
    answered: bool
    """True if both files contain a result, i.e. a peak or a table of GPUs."""

    @property
    def equal(self) -> bool:
        """True if both predictions have a result and no value differs."""
        return self.answered and not self.differences


def compare_predictions(
    first: Path, second: Path, tolerance: Fraction = Fraction(0)
) -> PredictionComparison:
    """Return the differences between two files; sizes within ``tolerance`` count as equal."""
    one, two = (dict(_values(_read(path), "")) for path in (first, second))
    differences = [
        Difference(name=name, first=one.get(name), second=two.get(name))
        for name in one.keys() | two.keys()
        if (type(one.get(name)), one.get(name)) != (type(two.get(name)), two.get(name))
    ]
    differences = [each for each in differences if not each.is_within(tolerance)]
    differences.sort(key=lambda each: (-abs(each.change_bytes()), each.name))
    answered = _is_answered(one) and _is_answered(two)
    return PredictionComparison(differences=tuple(differences), answered=answered)


def _read(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            plain = read_json(file.read(_LONGEST_BYTES))
    except (OSError, ValueError):
        plain = None
    is_prediction = (
        isinstance(plain, dict)
        and "outcome" in plain
        and any(name == "gpus" or name.endswith("_bytes") for name in plain)
    )
    if not isinstance(plain, dict) or not is_prediction:
        rule = "is not a prediction that harness predict --json printed"
        raise PredictionFileError(f"{path} {rule}")
    return {name: value for name, value in plain.items() if name not in _NOT_COMPARED}


def _values(value: object, name: str) -> Iterator[tuple[str, Value]]:
    """Yield each value with its dotted name, built from keys and from names of list entries."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _values(each, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        names = [_name_of(each) for each in value]
        if None in names or len(set(names)) < len(names):
            is_range = len(value) == 2 and _is_bytes(name)
            names = ["low", "high"] if is_range else [str(at) for at in range(len(value))]
        for own, each in zip(names, value, strict=True):
            yield from _values(each, f"{name}.{own}")
    elif value is None or isinstance(value, int | float | str):
        yield name, value


def _name_of(entry: object) -> str | None:
    """Return the name of a list entry, e.g. of a layer or a GPU; None if the entry has no name."""
    name = entry.get("name", entry.get("gpu")) if isinstance(entry, dict) else None
    return name if isinstance(name, str) else None


def _is_answered(values: dict[str, Value]) -> bool:
    """Return True if a prediction succeeded and contains a peak or a table of GPUs."""
    is_table = any(name.startswith("gpus.") for name in values)
    ended_well = values.get("outcome") in (Outcome.PREDICTED, Outcome.OK)
    return ended_well and (is_table or values.get("peak_live_bytes") is not None)


def _is_bytes(name: str) -> bool:
    stem = name.removesuffix(".low").removesuffix(".high")
    return stem.endswith("_bytes") or name.startswith("categories_at_peak.")
