"""Claims: √depth segments are best; their saving; the cost of a second forward pass."""

from harness.analysis.decisions import (
    CONFIDENCE,
    ROUGHLY,
    Decision,
    exactly,
    geometric_ratio,
    is_roughly,
)
from harness.analysis.judge import Part, decided, judge
from harness.analysis.stated_claims import stated
from harness.schema.findings import Claim, Verdict
from harness.schema.units import format_bytes

from . import law
from .curve import Curve, counts_in_words

SECOND_FORWARD = 4 / 3
"""Time of a step with a second forward pass over one without, by arithmetic."""
_REGIMES = {
    "activations": ("where activations outweigh parameters", "where activations outweigh"),
    "both": (
        "also where gradients are not small next to activations",
        "where gradients weigh as much",
    ),
}

_KINDS = {
    "activations": "large activations",
    "both": "gradients that weigh as much",
    "gradients": "gradients that outweigh activations",
}
"""Kinds of network by the regime of their curve, in words."""


def root_law(result: list[Curve]) -> list[Claim]:
    """Judge apart where activations outweigh parameters, and where gradients count too."""
    return [
        _root_claim([curve for curve in result if curve.regime == regime], *words)
        for regime, words in _REGIMES.items()
    ]


def _root_claim(chosen: list[Curve], where: str, short: str) -> Claim:
    words = ", ".join(
        f"{counts_in_words(curve.best)} at depth {curve.depth} (√depth {curve.root}, fitted law "
        f"{curve.optimum_in_words}, R² {curve.r2:.5f})"
        for curve in chosen
    )
    excess = max((curve.excess_at_root for curve in chosen), default=0.0)
    measured = "No network of this kind was measured."
    if chosen:
        measured = (
            f"The best number of segments is {words}. At √depth segments a step adds at most "
        )
        measured += f"{100 * excess:.3g}% more than at the best number."
    return decided(
        judge(Part(name=one.name, decision=exactly(_is_best(one))) for one in chosen),
        **stated(__file__, "root", where=where, short=short, roughly=f"{ROUGHLY:.0%}"),
        measured=measured,
        number="; ".join(
            f"√{curve.depth} = {curve.root}, best {counts_in_words(curve.best)}" for curve in chosen
        )
        or "none",
    )


def _is_best(curve: Curve) -> bool:
    """Return whether the square root is about the best, and other numbers are not."""
    ends = min(curve.at(1), curve.at(curve.most)) / curve.lowest - 1
    return curve.excess_at_root <= ROUGHLY < ends


def cheaper(result: list[Curve]) -> Claim:
    """Judge whether some number of segments lowers the peak of every network."""
    saved = [1 - curve.lowest / curve.without for curve in result]
    words = "; ".join(
        f"{curve.name}: {format_bytes(curve.without)} become {format_bytes(curve.lowest)}"
        for curve in result
    )
    parts = []
    for regime, name in _KINDS.items():
        lower = [one.lowest < one.without for one in result if one.regime == regime]
        decision = exactly(all(lower)) if lower else Decision(verdict=Verdict.OPEN)
        parts.append(Part(name=name, decision=decision))
    return decided(
        judge(parts),
        **stated(__file__, "cheaper"),
        measured="The bytes that a step adds change as follows at the best number of "
        f"segments ({words}). If a layer's gradients are as large as its activation, each "
        "freed activation is replaced by a gradient. The peak is then at the end of the "
        "backward pass, and nothing is saved.",
        number=f"{_less(min(saved))} to {_less(max(saved))} than without",
    )


def _less(share: float) -> str:
    return f"{100 * abs(share):.3g}% {'less' if share >= 0 else 'more'}"


def time(result: list[Curve]) -> Claim | None:
    """Judge the time of a second forward pass; each network that was timed gives one ratio."""
    if not result:
        return None
    middle, low, high = law.time_ratio(result)
    decision = Decision(verdict=Verdict.OPEN)
    number = f"{len(result)} networks; an interval needs three"
    if len(result) >= 3:
        ratio = geometric_ratio([curve.time_ratio for curve in result], CONFIDENCE)
        ends = (ratio.low / SECOND_FORWARD, ratio.high / SECOND_FORWARD)
        decision = is_roughly(low=ends[0], high=ends[1], repeats=ratio.blocks)
        number = f"{ratio.estimate:.3g} times, 99% interval {ratio.low:.3g} to {ratio.high:.3g}"
        number += f" over {ratio.blocks} networks"
    return decided(
        decision,
        **stated(__file__, "time", roughly=f"{ROUGHLY:.0%}"),
        measured="A step with segments takes "
        f"{middle:.3g} times as long as one without (median over cells). The middle 90% of the "
        f"cells lie between {low:.3g} and {high:.3g}. By arithmetic it is 1.33.",
        number=number,
    )
