"""Collects the rules of a report's claims, so that each rule and each change stands once."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.reporting.document import headline
from harness.schema.findings import MOST_FAIL, NO_RESULT, Claim, Rule, RuleChange

_REASON = re.compile(r", (?:which|where|whose) |\. ")
"""What follows the name of a control: the reason why the claim fails for it, and its verdict."""


@dataclass(frozen=True, kw_only=True)
class SharedRule:
    """A rule with all claims of the report that it decides, as a row of the table of rules."""

    anchor: str
    name: str
    claims: tuple[Claim, ...]
    holds: str
    matters: str
    control: str
    source: str
    written: tuple[RuleChange, ...]
    changes: tuple[RuleChange, ...]
    """Changes of the rule since the first data, from oldest to newest."""


def rules_of(claims: Iterable[Claim]) -> tuple[SharedRule, ...]:
    """Return the rules of all claims, in the order of the claims."""
    groups: dict[tuple[str, str], list[Claim]] = {}
    for claim in claims:
        named = claim.rule.name or headline(claim)
        groups.setdefault((named, claim.rule.holds), []).append(claim)
    return tuple(
        _shared(f"rule-{at}", name, own) for at, ((name, _), own) in enumerate(groups.items(), 1)
    )


def _shared(anchor: str, name: str, claims: Sequence[Claim]) -> SharedRule:
    histories = [one.history for one in claims if one.history]
    return SharedRule(
        anchor=anchor,
        name=name,
        claims=tuple(claims),
        holds=_conditions(claims[0].rule),
        matters=claims[0].matters,
        control="; ".join(dict.fromkeys(_REASON.split(one.control)[0] for one in claims)),
        source="; ".join(dict.fromkeys(one.source for one in histories)),
        written=_once(one.written for one in histories),
        changes=_once(change for one in histories for change in one.changes),
    )


def _conditions(rule: Rule) -> str:
    """Return the conditions of a rule, without those that all rules share."""
    fails = f". Fails if: {rule.fails}" if rule.fails != MOST_FAIL else ""
    return rule.holds + fails + (f". Open if: {rule.open}" if rule.open != NO_RESULT else "")


def _once(changes: Iterable[RuleChange]) -> tuple[RuleChange, ...]:
    return tuple(sorted(dict.fromkeys(changes), key=lambda one: one.date))


def commits_of(rules: Iterable[SharedRule]) -> tuple[RuleChange, ...]:
    """Return the first data, and every commit that wrote or changed a rule, each once."""
    histories = [one.history for rule in rules for one in rule.claims if one.history]
    return _once(each for one in histories for each in (one.first_data, one.written, *one.changes))
