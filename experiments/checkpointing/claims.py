"""Claims: √depth segments are best; their saving; the cost of a second forward pass."""

from harness.analysis.decisions import CONFIDENCE, Decision, geometric_ratio, is_within
from harness.schema.findings import Claim, Verdict
from harness.schema.units import format_bytes

from . import law
from .curve import Curve, counts_in_words

SECOND_FORWARD = 4 / 3
"""Time of a step with a second forward pass over one without, by arithmetic."""


FAR = 0.1
"""Differences beyond this part are not "about" equal."""


def root_law(result: list[Curve]) -> list[Claim]:
    """Rule apart where activations outweigh parameters, and where gradients count too."""
    sentences = {
        "activations": "About the square root of the depth is the best number of checkpointed "
        "segments (Chen et al.), where activations outweigh parameters.",
        "both": "About the square root of the depth is the best number of checkpointed segments, "
        "also where gradients are not small next to activations.",
    }
    headlines = {
        "activations": "√depth segments are best where activations outweigh parameters",
        "both": "√depth segments are best where gradients weigh as much",
    }
    verdicts = []
    for regime, sentence in sentences.items():
        chosen = [curve for curve in result if curve.regime == regime]
        if not chosen:
            continue
        excess = max(curve.excess_at_root for curve in chosen)
        within = all(curve.root in curve.best for curve in chosen)
        verdict = Verdict.SUPPORTED if within else Verdict.LIMITED
        words = "; ".join(
            f"depth {curve.depth}: √depth {curve.root}, the fitted law's {curve.optimum_in_words}, "
            f"measured {counts_in_words(curve.best)} (R² of the law {curve.r2:.5f})"
            for curve in chosen
        )
        words = f"{words[0].upper()}{words[1:]}. At √depth segments a step adds "
        words += f"{100 * excess:.3g}% more than at the best number, at most."
        verdicts.append(
            Claim(
                sentence=sentence,
                headline=headlines[regime],
                verdict=Verdict.REFUTED if excess > FAR else verdict,
                measured=words,
                number="; ".join(
                    f"√{curve.depth} = {curve.root}, best {counts_in_words(curve.best)}"
                    for curve in chosen
                ),
            )
        )
    return verdicts


def cheaper(result: list[Curve]) -> list[Claim]:
    """Judge whether some number of segments lowers the peak of every network."""
    saved = [1 - curve.lowest / curve.without for curve in result]
    words = "; ".join(
        f"{curve.name}: {format_bytes(curve.without)} become {format_bytes(curve.lowest)}"
        for curve in result
    )
    return [
        Claim(
            sentence="Checkpointing lowers the peak of a training step.",
            verdict=Verdict.SUPPORTED if min(saved) > 0 else Verdict.LIMITED,
            measured=f"What a step adds at its best number of segments ({words}). Where a layer's "
            "gradients are as large as its activation, each freed activation is replaced by a "
            "gradient: the peak is the end of the backward pass, and nothing is saved.",
            number=f"{_less(min(saved))} to {_less(max(saved))} than without",
        )
    ]


def _less(share: float) -> str:
    return f"{100 * abs(share):.3g}% {'less' if share >= 0 else 'more'}"


def time(result: list[Curve]) -> Claim:
    """Judge the time of a second forward pass; each network gives one ratio."""
    middle, low, high = law.time_ratio(result)
    decision, words = Decision(verdict=Verdict.OPEN), ""
    if len(result) >= 3:
        ratio = geometric_ratio([curve.time_ratio for curve in result], CONFIDENCE)
        decision = is_within(
            (1 - FAR) * SECOND_FORWARD,
            (1 + FAR) * SECOND_FORWARD,
            low=ratio.low,
            high=ratio.high,
            repeats=ratio.blocks,
        )
        words = (
            f" The 99% interval over {ratio.blocks} networks is {ratio.low:.3g} to "
            f"{ratio.high:.3g}."
        )
    return Claim(
        sentence="The second forward pass makes a step a third longer (four units of arithmetic "
        "instead of three).",
        headline="Checkpointing makes a step a third longer",
        verdict=decision.verdict,
        open_reason=decision.reason("networks"),
        measured=f"The median over cells of the time with segments over the time without is "
        f"{middle:.3g}; the middle 90% of the cells lie between {low:.3g} and {high:.3g}.{words} "
        f"The claim holds within {FAR:.0%} of 4/3.{decision.remark('networks')}",
        number=f"{middle:.3g} times [{low:.3g}, {high:.3g}]; by arithmetic 1.33",
    )
