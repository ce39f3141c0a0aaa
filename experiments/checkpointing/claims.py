"""Judges the claims on √depth segments, on reduced memory, and on the second forward pass."""

from collections.abc import Sequence

import pandas as pd

from harness.analysis.claim_judge import Equal, judged, told
from harness.analysis.decisions import (
    ROUGHLY,
    Decided,
    Ratio,
    is_roughly,
    ratio_of_means,
)
from harness.analysis.judge import Part, judge
from harness.schema.findings import Claim, Verdict
from harness.schema.units import format_bytes

from .curve import Curve, counts_in_words

SECOND_FORWARD = 4 / 3
"""Expected time of a step with a second forward pass, divided by the time without this pass."""
_REGIMES = {
    "activations": ("where activations outweigh parameters", "where activations outweigh"),
    "both": (
        "also where gradients are not small next to activations",
        "where gradients weigh as much",
    ),
}
_KINDS = {
    "activations": "large activations",
    "both": "similar gradients",
    "gradients": "large gradients",
}
"""Description of a network for each value of ``Curve.regime``."""


def memory(result: Sequence[Curve], missing: int, derived: Equal) -> list[Claim]:
    """Judge the claims that √depth segments are best, and that checkpointing reduces memory."""
    rows = [
        {
            "network": one.name,
            "regime": one.regime,
            "kind": _KINDS[one.regime],
            "holds": int(_is_best(one)),
            "excess": 1 + one.excess_at_root,
            "left": one.lowest / one.without,
            "left_with_one": one.at(1) / one.without,
            "sure": one.is_whole,
        }
        for one in result
    ]
    table = pd.DataFrame(rows)
    every = {"missing": missing, "derived": derived}
    claims = [
        _root([one for one in result if one.regime == regime], table, regime, **every)
        for regime in _REGIMES
    ]
    words = "; ".join(
        f"from {format_bytes(one.without)} to {format_bytes(one.lowest)} ({one.name})"
        for one in result
    )
    absent = len(set(_KINDS) - set(table["regime"]))
    lost = {**every, "missing": missing + absent}
    return [*claims, judged(__file__, "cheaper", table, **lost, words=words)]  # type: ignore[arg-type]


def _root(chosen: list[Curve], table: pd.DataFrame, regime: str, **every: object) -> Claim:
    best = "; ".join(
        f"{counts_in_words(one.best)} at depth {one.depth} (√depth is {one.root}, the fitted law "
        f"gives {one.optimum_in_words}, R² {one.r2:.5f})"
        for one in chosen
    )
    listed = (f"√{one.depth}={one.root}: {counts_in_words(one.best)}" for one in chosen)
    where, short = _REGIMES[regime]
    return judged(
        __file__,
        "root",
        table,
        **every,  # type: ignore[arg-type]
        regime=regime,
        where=where,
        short=short,
        listed="; ".join(listed) or "none",
        best=best or "not known",
    )


def _is_best(curve: Curve) -> bool:
    """Return True if memory is near its minimum at √depth segments, not at 1 or ``most``."""
    ends = min(curve.at(1), curve.at(curve.most)) / curve.lowest - 1
    return curve.excess_at_root <= ROUGHLY < ends


def time(result: Sequence[Curve], missing: int) -> Claim | None:
    """Judge how much time the second forward pass takes, network by network."""
    if not result:
        return None
    known = {one.name: slowdown(one) for one in result}
    alone = [_ratio(one.base_seconds[::2], one.base_seconds[1::2]) for one in result]
    parts = [Part(name=name, decision=_decide(one)) for name, one in known.items()]
    parts.append(Part(name="networks that failed", decision=_decide(None), cells=missing))
    held = sum(part.decision.verdict is Verdict.SUPPORTED for part in parts)
    ratios = [one for one in known.values() if one]
    ends = [one.estimate for one in ratios]
    return told(
        __file__,
        "time",
        judge(parts),
        control=judge(Part(name="", decision=_decide(one)) for one in alone if one),
        times=f"{min(ends):.3g} to {max(ends):.3g}" if ends else "unknown",
        listed="; ".join(f"{one or 'unknown'} for {name}" for name, one in known.items()),
        held=held,
        total=len(known) + missing,
        seen=max(((one.high / one.low) ** 0.5 - 1 for one in ratios), default=0.0),
    )


def slowdown(curve: Curve) -> Ratio | None:
    """Return the time of checkpointed steps divided by the time of uncheckpointed steps."""
    return _ratio(curve.seconds, curve.base_seconds)


def _ratio(over: Sequence[float], under: Sequence[float]) -> Ratio | None:
    return ratio_of_means(over, under) if min(len(over), len(under)) > 1 else None


def _decide(ratio: Ratio | None) -> Decided:
    if ratio is None:
        return Decided(verdict=Verdict.OPEN)
    low, high = ratio.low / SECOND_FORWARD, ratio.high / SECOND_FORWARD
    return is_roughly(low=low, high=high, repeats=ratio.blocks)
