"""The data dictionary: name, type, unit and meaning of every column of ``harness.load``."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from msgspec import Struct

from harness.plots.frames import COLUMNS
from harness.schema.workload import Workload

MEANINGS: Mapping[str, str] = tomllib.loads(
    Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
)
"""Meanings by name; a part in angle brackets stands for any name."""


class Column(Struct, frozen=True, kw_only=True):
    """One column of a frame of records."""

    name: str
    type: str
    """``integer``, ``number`` or ``string``, as in a Frictionless table schema."""
    unit: str
    """``byte``, ``second`` or nothing."""
    description: str


_TYPES = {"Int64": "integer", "Float64": "number", "string": "string"}


def dictionary() -> tuple[Column, ...]:
    """Return every column, in order.

    >>> next(one.unit for one in dictionary() if one.name == "saved_bytes")
    'byte'
    """
    return tuple(
        Column(name=name, type=_TYPES[kind], unit=unit_of(name), description=meaning(name))
        for name, kind in COLUMNS.items()
    )


def unit_of(name: str) -> str:
    """Return the unit that a column's name says."""
    if name.endswith("_bytes") or name.startswith("categories_at_peak."):
        return "byte"
    return "second" if name.endswith("_seconds") else ""


def meaning(name: str) -> str:
    """Return the meaning of a column of a frame of records."""
    helps = {item.name: str(item.metadata.get("help", "")) for item in fields(Workload)}
    if name in helps or name in MEANINGS:
        return helps.get(name) or MEANINGS[name]
    for known, text in MEANINGS.items():
        if re.fullmatch(re.sub("<[a-z]+>", "[a-z_]+", known), name):
            counter = MEANINGS.get(f"cuda.{name.rpartition('.')[2]}")
            return f"{counter} {text}" if counter else text
    return ""
