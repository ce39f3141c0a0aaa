"""Judges a claim from the parts of what it speaks of, each of which holds, fails or is open.

The middle verdict is earned: the claim holds in part only if the larger part holds, and both
parts are named. If the smaller part holds, the claim fails, and that part is named.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.analysis.decisions import Decision
from harness.schema.findings import Claim, Rule, Verdict

MOST_NAMES = 3
"""Parts that a verdict names one by one; the others are counted."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of what a claim speaks of."""

    name: str
    """Follows "holds for": "Adam", "batch 512 and more"."""
    decision: Decision
    """The claim holds, fails or is open on this part."""
    cells: int = 1
    """Weight: how many of the cases of which the claim speaks are in the part."""


def judge(parts: Iterable[Part]) -> Decision:
    """Return the verdict on the whole from its parts.

    Supported if every part holds; limited if the larger part holds; refuted otherwise; open if
    the parts that are undecided could turn the verdict, or if there is no part.

    >>> from harness.analysis.decisions import exactly
    >>> yes, no = exactly(True), exactly(False)
    >>> judge([Part(name="Adam", decision=yes, cells=3), Part(name="SGD", decision=no)]).words
    'holds for Adam, fails for SGD'
    >>> judge([Part(name="Adam", decision=yes), Part(name="SGD", decision=no)]).words
    'fails; holds only for Adam'
    """
    known = [part for part in parts if part.cells]
    unsure = [part for part in known if part.decision.verdict is Verdict.OPEN]
    held = [part for part in known if part.decision.verdict is Verdict.SUPPORTED]
    failed = [part for part in known if part.decision.verdict is Verdict.REFUTED]
    if len(unsure) + len(held) + len(failed) < len(known):
        raise ValueError("a part holds, fails or is open; divide one that holds in part")
    ends = {_verdict(held + unsure, failed), _verdict(held, failed + unsure)}
    if not known or len(ends) > 1:
        repeats = [part.decision.repeats for part in unsure]
        known_repeats = [count for count in repeats if count is not None]
        complete = known_repeats and len(known_repeats) == len(repeats)
        return Decision(verdict=Verdict.OPEN, repeats=max(known_repeats) if complete else None)
    (verdict,) = ends
    if verdict is Verdict.SUPPORTED:
        return Decision(verdict=verdict)
    return Decision(verdict=verdict, holds_for=names(held), fails_for=names(failed))


def _verdict(held: Sequence[Part], failed: Sequence[Part]) -> Verdict:
    if not failed:
        return Verdict.SUPPORTED
    larger = sum(part.cells for part in held) > sum(part.cells for part in failed)
    return Verdict.LIMITED if larger else Verdict.REFUTED


def names(parts: Sequence[Part]) -> str:
    """Return the parts by name, the first few if they are many."""
    known = [part.name for part in parts]
    if len(known) > MOST_NAMES + 1:
        known = [*known[:MOST_NAMES], f"{len(known) - MOST_NAMES} more"]
    *first, last = known or [""]
    return f"{', '.join(first)} and {last}" if first else last


def decided(
    decision: Decision,
    *,
    sentence: str,
    rule: Rule,
    second: str,
    number: str,
    measured: str,
    unit: str = "cells",
    headline: str = "",
    topic: str = "",
) -> Claim:
    """Return the claim with its decision; an open one says how many of ``unit`` would decide."""
    return Claim(
        sentence=sentence,
        verdict=decision.verdict,
        holds_for=decision.holds_for,
        fails_for=decision.fails_for,
        rule=rule,
        second=second,
        number=number,
        measured=measured + decision.remark(unit),
        open_reason=decision.reason(unit),
        headline=headline,
        topic=topic,
    )
