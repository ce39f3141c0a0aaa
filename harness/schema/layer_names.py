"""Names of layers: those of equal blocks differ in a number and share a row."""

import re
from collections.abc import Sequence

_NUMBER = re.compile(r"(?<![^._])\d+(?![^.])")
"""A number that is a whole part of a name (``blocks.3``) or ends one (``encoder_layer_3``)."""


def pattern(name: str) -> str:
    """Return the name with each number of a block replaced: equal for equal blocks."""
    return _NUMBER.sub("#", name)


def common_name(names: Sequence[str]) -> str:
    """Return one name for all of one pattern, each number that varies as a range or ``*``.

    >>> common_name(["layers.block_0.norm", "layers.block_1.norm", "layers.block_2.norm"])
    'layers.block_0–2.norm'
    """
    parts = zip(*(name.split(".") for name in names), strict=True)
    return ".".join(_ranged(sorted(set(values))) for values in parts)


def _ranged(values: Sequence[str]) -> str:
    if len(values) == 1:
        return values[0]
    stem = values[0].rstrip("0123456789")
    numbers = sorted(int(value.removeprefix(stem)) for value in values)
    whole = numbers[-1] - numbers[0] + 1 == len(numbers)
    return stem + (f"{numbers[0]}–{numbers[-1]}" if whole else "*")
