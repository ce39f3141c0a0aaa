"""Reads an experiment's ``claims.toml``; this file states how each claim is decided.

The table ``all`` has the entries that all its claims share. Names in braces are filled in.
"""

import functools
import tomllib
from datetime import date
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from harness.schema.findings import Rule

Relation = Literal["near", "at least", "at most", "above", "below", "equal"]


class Control(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A network for which the claim must fail, measured in the same run."""

    name: str
    where: str = ""
    """Rows of the table that belong to the control; none if the experiment judges the control."""
    value: str = ""
    """Column or expression, if it differs from the claim's."""


class RuleChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A commit that wrote or changed a rule."""

    commit: str
    date: date
    words: str
    removed: str = ""
    added: str = ""
    """Fragments of the lines that the commit removed and added; a test checks them."""

    def __str__(self) -> str:
        return f"of {self.date:%-d %B %Y} (commit {self.commit}): {self.words}"


class RuleHistory(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The commits in which a rule got its limit, and the first data after that limit."""

    source: str
    """Source of the limit."""
    first_data: RuleChange
    written: RuleChange
    changes: tuple[RuleChange, ...] = ()
    """Changes since the first data, the oldest first."""

    def __str__(self) -> str:
        """Return the history in sentences."""
        text = f"Source of the limit: {self.source}. First version {self.written}. "
        text += f"The first data are from {self.first_data.date:%-d %B %Y}. "
        count = len(self.changes)
        if not count:
            return text + "The rule has not been changed since then."
        changes = " ".join(f"Change {change}." for change in self.changes)
        times = "once" if count == 1 else f"{count} times"
        return f"{text}Since then the rule was changed {times}. {changes}"


class ClaimData(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The facts of a claim that do not depend on data, and the words for its numbers."""

    sentence: str
    headline: str = ""
    holds: str
    fails: str
    open: str
    matters: str
    """Smallest difference that matters, and why."""
    second: str
    unit: str = "cells"
    number: str
    measured: str = ""
    value: str | tuple[str, ...] = ""
    """Columns or expressions of columns; the relation to the limit must hold for all."""
    relation: Relation = "near"
    limit: float = 1.0
    where: str = ""
    """Rows of the table that the claim is about; all by default."""
    axes: tuple[str, ...] = ()
    """Columns by which the cells are named."""
    steps: bool = False
    """True if a cell stands for the step from its numbers to the next larger numbers."""
    control: Control | None = None
    sensitivity: tuple[float, ...] = ()
    """Other limits; for each other limit, the cells that hold are counted, too."""

    def rule(self, **given: object) -> Rule:
        """Return the results that decide the claim."""
        return Rule(
            holds=self.holds.format(**given),
            fails=self.fails.format(**given),
            open=self.open.format(**given),
        )


def claim_data(file: str, claim: str) -> ClaimData:
    """Return the entry of a claim in ``claims.toml`` next to ``file``."""
    every = _tables(Path(file).with_name("claims.toml"))
    return msgspec.convert({**every.get("all", {}), **every[claim]}, ClaimData)


def text(file: str, name: str, /, **given: object) -> str:
    """Return a paragraph of ``claims.toml`` next to ``file``, from its table ``text``."""
    words: str = _tables(Path(file).with_name("claims.toml"))["text"][name]
    return words.format(**given)


def figure_data(file: str, name: str) -> dict[str, Any]:
    """Return the settings of a figure in ``claims.toml`` next to ``file``."""
    own: dict[str, Any] = _tables(Path(file).with_name("claims.toml"))["figures"][name]
    return own


def history_of(file: str, claim: str) -> RuleHistory | None:
    """Return the history of a claim's rule from ``rule_history.toml``; None if the file lacks it.

    The file is in the folder of the experiment's package, e.g. ``experiments`` for ``width``.
    """
    folder = Path(file).parent
    path = folder.parent / "rule_history.toml"
    if not path.is_file():
        return None
    every = _tables(path)
    own = every.get(folder.name, {}).get(claim)
    if own is None:
        return None
    known = every["change"]
    return RuleHistory(
        source=own["source"],
        first_data=_change(known, own["first_data"]),
        written=_change(known, own["written"]),
        changes=tuple(_change(known, name) for name in own.get("changes", ())),
    )


def _change(known: dict[str, Any], name: str) -> RuleChange:
    return msgspec.convert(known[name], RuleChange)


@functools.cache
def _tables(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text("utf-8"))
