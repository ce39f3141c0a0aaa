"""Combines the table rows of equal layers whose names differ only in a number."""

import re
from collections.abc import Sequence

from harness.schema.metrics import Layer

_NUMBER = re.compile(r"(?<![^._])\d+(?![^.])")
"""Pattern of a layer number in a module name such as ``blocks.3`` or ``encoder_layer_3``."""


def pattern(name: str) -> str:
    """Return the name with ``#`` in place of each number, as a key that groups equal layers."""
    return _NUMBER.sub("#", name)


def common_name(names: Sequence[str]) -> str:
    """Return a common name for layers; a range or ``*`` replaces the numbers that differ.

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


def folded(rows: Sequence[Layer]) -> list[Layer]:
    """Return the rows, with one row for all equal layers, such as ``blocks.0–7.norm`` (x8).

    >>> def row(name, size=4):
    ...     return Layer(name=name, kind="Linear", parameter_bytes=size, output_bytes=1,
    ...                  saved_bytes=2, peak_bytes=3)
    >>> [(one.name, one.kind, one.saved_bytes) for one in folded(
    ...     [row("blocks.0.up"), row("blocks.1.up"), row("head", 8)])]
    [('blocks.0–1.up', 'Linear x2', 4), ('head', 'Linear', 2)]
    """
    groups: dict[tuple[str, str, int], list[Layer]] = {}
    for row in rows:
        key = pattern(row.name), row.kind, row.parameter_bytes
        groups.setdefault(key, []).append(row)
    return [
        group[0]
        if len(group) == 1
        else summed(group, common_name([row.name for row in group]), f"{kind} x{len(group)}")
        for (_, kind, _), group in groups.items()
    ]


def summed(rows: Sequence[Layer], name: str, kind: str) -> Layer:
    """Return a ``Layer`` with the summed bytes of several layers."""
    return Layer(
        name=name,
        kind=kind,
        parameter_bytes=sum(row.parameter_bytes for row in rows),
        output_bytes=sum(row.output_bytes for row in rows),
        saved_bytes=sum(row.saved_bytes for row in rows),
        peak_bytes=sum(row.peak_bytes for row in rows),
    )
