"""Reads an experiment's ``claims.toml``, which contains the rule that decides each claim.

The entries of the table ``all`` apply to every claim of the file. Names in braces in the texts are
replaced by values, as in ``str.format``.
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
    """Negative control of a claim, i.e. a measurement for which the claim must fail."""

    name: str
    where: str = ""
    """Pandas query that selects the control's rows; empty if the experiment judges the control."""
    value: str = ""
    """Column or pandas expression to judge; empty to judge the ``value`` of the claim."""


class RuleChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A commit in the history of a claim's rule."""

    commit: str
    date: date
    words: str
    removed: str = ""
    added: str = ""
    """Text that the commit added to the rule. A test compares ``removed`` and ``added`` with the
    diff of the commit."""

    def __str__(self) -> str:
        return f"On {self.date:%-d %B %Y} (commit {self.commit}), {self.words}."


class RuleHistory(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first commit of a claim's rule, the first measurement, and later changes of the rule."""

    source: str
    """Reason for the rule's limit, such as "10%, by judgement"."""
    first_data: RuleChange
    written: RuleChange
    changes: tuple[RuleChange, ...] = ()
    """Changes of the rule after the first measurement, from oldest to newest."""

    def __str__(self) -> str:
        """Return the history in sentences."""
        first, count = self.written, len(self.changes)
        text = (
            f"Source of the limit: {self.source}. The rule was written on {first.date:%-d %B %Y}"
            f" (commit {first.commit}). The first limit of the rule was {first.words}. The first"
            f" data for this claim are from {self.first_data.date:%-d %B %Y}."
        )
        if not count:
            return f"{text} Since the first data, the rule has not changed."
        times = {1: "once", 2: "twice"}.get(count, f"{count} times")
        changes = " ".join(map(str, self.changes))
        return f"{text} Since the first data, the rule has changed {times}. {changes}"


class ClaimData(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An entry of ``claims.toml`` with a claim's rule and the texts that report its numbers."""

    sentence: str
    headline: str = ""
    holds: str
    fails: str
    open: str
    matters: str
    """Smallest difference that matters in practice, and the reason why it matters."""
    second: str
    unit: str = "cells"
    number: str
    measured: str = ""
    value: str | tuple[str, ...] = ""
    """Columns or pandas expressions whose values are judged. A row satisfies the claim if
    ``relation`` holds between each value and ``limit``."""
    relation: Relation = "near"
    limit: float = 1.0
    where: str = ""
    """Pandas query that selects the rows that the claim is about; empty for all rows."""
    axes: tuple[str, ...] = ()
    """Columns whose values identify a case in the verdict, such as ``depth`` and ``batch``."""
    steps: bool = False
    """True if a row describes the change from one value of an axis to the next larger value."""
    control: Control | None = None
    sensitivity: tuple[float, ...] = ()
    """Further limits; for each limit, the report states how many cases would satisfy the claim."""

    def rule(self, **given: object) -> Rule:
        """Return text with the conditions under which the claim holds, fails or stays open."""
        return Rule(
            holds=self.holds.format(**given),
            fails=self.fails.format(**given),
            open=self.open.format(**given),
        )


def claim_data(file: str, claim: str) -> ClaimData:
    """Read the entry of ``claim`` from ``claims.toml`` in the folder of ``file``."""
    every = _tables(Path(file).with_name("claims.toml"))
    return msgspec.convert({**every.get("all", {}), **every[claim]}, ClaimData)


def text(file: str, name: str, /, **given: object) -> str:
    """Read a text from ``claims.toml`` next to ``file``, and replace names in braces by values."""
    words: str = _tables(Path(file).with_name("claims.toml"))["text"][name]
    return words.format(**given)


def figure_data(file: str, name: str) -> dict[str, Any]:
    """Read the settings of the figure ``name`` from ``claims.toml`` in the folder of ``file``."""
    own: dict[str, Any] = _tables(Path(file).with_name("claims.toml"))["figures"][name]
    return own


def history_of(file: str, claim: str) -> RuleHistory | None:
    """Read a rule's history from ``rule_history.toml``; None if the file or the entry is missing.

    ``rule_history.toml`` is in the parent folder of the experiment, e.g. in ``experiments`` for
    ``experiments/width``.
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
