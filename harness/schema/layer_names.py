"""Names of layers: those of equal blocks differ in a number and share a row."""

import re
from collections.abc import Sequence

_NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")


def pattern(name: str) -> str:
    """Return the name with each number of a block replaced: equal for equal blocks."""
    return _NUMBER.sub("#", name)


def common_name(names: Sequence[str]) -> str:
    """Return one name for all of one pattern, each number that varies as a range or ``*``."""
    parts = zip(*(name.split(".") for name in names), strict=True)
    return ".".join(_ranged(sorted(set(values))) for values in parts)


def _ranged(values: Sequence[str]) -> str:
    if len(values) == 1:
        return values[0]
    numbers = sorted(map(int, values))
    whole = numbers[-1] - numbers[0] + 1 == len(numbers)
    return f"{numbers[0]}–{numbers[-1]}" if whole else "*"
