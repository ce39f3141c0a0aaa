"""Reads ``claims.toml``, which contains the sentence and the rule of each claim."""

import functools
import tomllib
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from harness.schema.findings import Rule, Source


class ClaimText(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A claim of ``claims.toml``; it holds if the condition ``holds_if`` is met for ``cases``."""

    order: int
    title: str
    headline: str
    citation: str
    quote: str
    secondary: str = ""
    sentence: str
    holds_if: str
    cases: str
    closed_form: str
    limits: str
    figure: dict[str, Any] = {}
    """Name, caption and options of the claim's figure."""

    @property
    def source(self) -> Source:
        """Source, sentence and rule of the claim."""
        rule = Rule(holds=f"{self.holds_if} for {self.cases}")
        return Source(
            citation=self.citation,
            quote=self.quote,
            secondary=self.secondary,
            sentence=self.sentence,
            headline=self.headline,
            rule=rule,
        )


@functools.cache
def claim_texts() -> dict[str, ClaimText]:
    """Return the claims of ``claims.toml``, by the names of their Python files."""
    text = Path(__file__).with_name("claims.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text), dict[str, ClaimText])
