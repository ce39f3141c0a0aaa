"""Two predictions (``harness predict --json``) compared, value by value."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.schema.errors import HarnessError
from harness.schema.layer_names import common_name, pattern
from harness.schema.unique_keys import read_json
from harness.schema.units import format_bytes

Value = int | float | str | None

_LONGEST_BYTES = 64 << 20
_LONGEST_TEXT = 40
_CATEGORIES = "categories_at_peak."
_NOT_COMPARED = ("environment", "target", "wall_seconds", "workload_id")
"""Of where and how the prediction was made; a workload's own settings are compared."""


class PredictionFileError(HarnessError, ValueError):
    """A file that holds no prediction."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A value that differs; None where a prediction does not have it or does not know it."""

    name: str
    first: Value
    second: Value

    def change_bytes(self) -> int:
        """Return the second value minus the first in bytes; 0 for other values."""
        if not _is_bytes(self.name):
            return 0
        first, second = (each if isinstance(each, int) else 0 for each in (self.first, self.second))
        return second - first


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Differences between two predictions, the largest change of bytes first."""

    differences: tuple[Difference, ...]
    answered: bool
    """Whether both have an answer; two that lack it are not equal in anything."""

    @property
    def equal(self) -> bool:
        """True if both predictions say the same."""
        return self.answered and not self.differences


def compare_predictions(first: Path, second: Path) -> Comparison:
    """Return what differs between two files."""
    one, two = (dict(_values(_read(path), "")) for path in (first, second))
    differences = [
        Difference(name=name, first=one.get(name), second=two.get(name))
        for name in sorted(one.keys() | two.keys())
        if one.get(name) != two.get(name)
    ]
    return Comparison(
        differences=tuple(
            sorted(differences, key=lambda each: (-abs(each.change_bytes()), each.name))
        ),
        answered=all(_is_answered(each) for each in (one, two)),
    )


def comparison_text(comparison: Comparison) -> str:
    """Return the differences as a table."""
    if comparison.equal:
        return "the two predictions are equal\n"
    if not comparison.differences:
        return "neither prediction has a peak, so nothing can be compared\n"
    rows = [
        (
            name,
            _shown(each.name, each.first),
            _shown(each.name, each.second),
            _signed(each.change_bytes()) if _is_bytes(each.name) else "",
        )
        for name, each in _folded(comparison.differences)
    ]
    heads = ("value", "first", "second", "change")
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(4)]
    lines = [
        "  ".join([f"{row[0]:<{widths[0]}}", *(f"{row[n]:>{widths[n]}}" for n in (1, 2, 3))])
        for row in (heads, *rows)
    ]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _folded(differences: Sequence[Difference]) -> Iterator[tuple[str, Difference]]:
    """Yield one row for sizes that changed alike: layers of equal blocks, peaks that are equal."""
    groups: dict[tuple[object, ...], list[Difference]] = {}
    has_layers = any(each.name.startswith("layers.") for each in differences)
    for each in differences:
        if has_layers and each.name.startswith("modules."):
            continue  # the layers say the same
        kind = pattern(each.name) if each.name.startswith("layers.") else ""
        key = (kind, each.first, each.second) if _is_bytes(each.name) else (each.name,)
        groups.setdefault(key, []).append(each)
    for group in groups.values():
        first = min(group, key=lambda each: (len(each.name), each.name))
        if len(group) == 1:
            yield first.name, first
        elif first.name.startswith("layers."):
            yield f"{common_name([each.name for each in group])} x{len(group)}", first
        else:
            yield f"{first.name} (and {len(group) - 1} alike)", first


def _read(path: Path) -> dict[str, object]:
    problem = f"{path} is not a prediction that harness predict --json printed"
    try:
        with path.open("rb") as file:
            plain = read_json(file.read(_LONGEST_BYTES))
    except (OSError, ValueError):
        raise PredictionFileError(problem) from None
    if not isinstance(plain, dict) or "outcome" not in plain:
        raise PredictionFileError(problem)
    if not any(name == "gpus" or name.endswith("_bytes") for name in plain):
        raise PredictionFileError(problem)
    return {name: value for name, value in plain.items() if name not in _NOT_COMPARED}


def _values(value: object, name: str) -> Iterator[tuple[str, Value]]:
    """Yield every value by its dotted name; entries of a list by their own names."""
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
    """Return what an entry of a list is called: a layer's name, a GPU's."""
    if not isinstance(entry, dict):
        return None
    name = entry.get("name", entry.get("gpu"))
    return name if isinstance(name, str) else None


def _is_answered(values: dict[str, Value]) -> bool:
    """Return whether a prediction knows the peak, or is a table of GPUs."""
    return values.get("peak_live_bytes") is not None or any(
        name.startswith("gpus.") for name in values
    )


def _is_bytes(name: str) -> bool:
    stem = name.removesuffix(".low").removesuffix(".high")
    return stem.endswith("_bytes") or name.startswith(_CATEGORIES)


def _shown(name: str, value: Value) -> str:
    if value is None:
        return "-"
    if isinstance(value, int) and not isinstance(value, bool):
        return format_bytes(value) if _is_bytes(name) else f"{value:,}"
    text = " ".join(str(value).split())
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"


def _signed(size: int) -> str:
    return ("+" if size >= 0 else "-") + format_bytes(abs(size))
