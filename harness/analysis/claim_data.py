"""Reads an experiment's ``claims.toml``, which contains the rule that decides each claim.

The entries of the table ``all`` apply to every claim of the file. Names in braces in the texts are
replaced by values, as in ``str.format``.
"""

import functools
import tomllib
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from harness.schema.findings import MOST_FAIL, NO_RESULT, Rule, RuleChange, RuleHistory

Relation = Literal["near", "at least", "at most", "above", "below", "equal"]


class Control(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Negative control of a claim, i.e. a measurement for which the claim must fail."""

    name: str
    where: str = ""
    """Pandas query that selects the control's rows; empty if the experiment judges the control."""
    value: str = ""
    """Column or pandas expression to judge; empty to judge the ``value`` of the claim."""


class ClaimData(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An entry of ``claims.toml`` with a claim's rule and the texts that report its numbers."""

    sentence: str
    headline: str = ""
    rule: str = ""
    """Name of the rule; claims with the same rule share ``holds`` and ``matters``."""
    holds: str
    fails: str = MOST_FAIL
    open: str = NO_RESULT
    special: str = ""
    """Sentence on what is special in how a shared rule applies to this claim."""
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

    def conditions(self, **given: object) -> Rule:
        """Return text with the conditions under which the claim holds, fails or stays open."""
        texts = {"holds": self.holds, "fails": self.fails, "open": self.open}
        return Rule(**{name: one.format(**given) for name, one in texts.items()}, name=self.rule)


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
    ``experiments/width``. The entries of the experiment's table ``all`` apply to its every claim.
    """
    folder = Path(file).parent
    path = folder.parent / "rule_history.toml"
    tables = _tables(path) if path.is_file() else {}
    own = tables.get(folder.name, {})
    if claim not in own and not (claim and "all" in own):
        return None
    known = {
        name: RuleChange(name=name, **{key: one[key] for key in ("commit", "date", "words")})
        for name, one in tables["change"].items()
    }
    entry = {**own.get("all", {}), **own.get(claim, {})}
    return RuleHistory(
        source=entry["source"],
        first_data=known[entry["first_data"]],
        written=known[entry["written"]],
        changes=tuple(known[name] for name in entry.get("changes", ())),
    )


@functools.cache
def _tables(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text("utf-8"))
