"""Reads ``claims.toml`` next to an experiment: what each claim says, and what decides it.

A table ``all`` has what its claims have in common.
"""

import functools
import tomllib
from pathlib import Path
from typing import TypedDict

from harness.schema.findings import Rule


class Stated(TypedDict):
    """The fields of a claim that are known before the data."""

    sentence: str
    headline: str
    rule: Rule
    second: str
    unit: str


def stated(file: str, claim: str, **given: object) -> Stated:
    """Return what ``claims.toml`` next to ``file`` says; ``given`` are the names in braces."""
    every = _tables(Path(file).with_name("claims.toml"))
    words = {key: text.format(**given) for key, text in (every["all"] | every[claim]).items()}
    return Stated(
        sentence=words["sentence"],
        headline=words.get("headline", ""),
        rule=Rule(holds=words["holds"], fails=words["fails"], open=words["open"]),
        second=words["second"],
        unit=words.get("unit", "cells"),
    )


@functools.cache
def _tables(path: Path) -> dict[str, dict[str, str]]:
    return {"all": {}} | tomllib.loads(path.read_text("utf-8"))
