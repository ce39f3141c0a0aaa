"""Accuracy, equal steps, growth, and the order of ``zero_grad``."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from harness.analysis.decisions import CONFIDENCE, Decision, is_above, is_below, share_interval
from harness.schema.findings import Claim, Verdict

from .growth import flatness, resident_slope
from .runs import Run

NOTED_ACCURACY = 0.83


NOTED_EPOCHS = 10


LEAK_BYTES = 256
"""Growth per step that counts as a leak: less than most tensors that are kept by mistake."""


@dataclass(frozen=True, kw_only=True)
class _Held:
    """Bytes that a run holds, in words."""

    title: str
    holder: str
    sentence: str
    note: str


HELD = {
    "cpu": _Held(
        title="RSS",
        holder="the RSS of the process",
        sentence=f"The process does not leak while it trains (less than {LEAK_BYTES} bytes a "
        "step).",
        note="One page is 4 KiB. RSS contains the interpreter's own heap and what the instrument "
        "needs.",
    ),
    "cuda": _Held(
        title="Reserved GPU memory",
        holder="the reserved GPU memory",
        sentence="What a run reserves on the GPU does not grow while it trains (less than "
        f"{LEAK_BYTES} bytes a step).",
        note="The caching allocator reserves whole segments of at least 2 MiB.",
    ),
}


def _all(decisions: Sequence[Decision]) -> Decision:
    """Return the decision on "each of them": the first that refutes, else the first left open."""
    for verdict in (Verdict.REFUTED, Verdict.OPEN):
        for one in decisions:
            if one.verdict is verdict:
                return one
    return decisions[0]


def accuracy(result: Sequence[Run]) -> list[Claim]:
    """Judge the accuracy after the note's ten epochs, on the real images."""
    at = NOTED_EPOCHS
    ends = {
        one.model: float(one.epochs["accuracy"].iloc[at - 1])
        for one in result
        if one.data == "fashion-mnist" and len(one.epochs) >= at
    }
    decision = Decision(verdict=Verdict.OPEN)
    why = f"the runs are shorter than {at} epochs"
    words = f"The runs were shorter than {at} epochs."
    if max(len(one.epochs) for one in result) >= at:
        why = "no images here; harness doctor says how to get them"
        words = "The real images were not available."
    if ends:
        images = 10_000
        decisions = []
        for end in ends.values():
            low, high = share_interval(round(end * images), images)
            decisions.append(is_above(NOTED_ACCURACY, low=low, high=high, repeats=1))
        decision = _all(decisions)
        numbers = ", ".join(f"{model} {end:.4f}" for model, end in ends.items())
        words = f"Validation accuracy after {at} epochs, on {images:,} images: {numbers}."
        words += decision.remark("runs with other seeds")
        why = decision.reason("seeds")
    return [
        Claim(
            sentence="The note's network, trained as the note says, learns Fashion-MNIST (more "
            f"than {NOTED_ACCURACY:.0%} of the validation images correct after 10 epochs).",
            headline="The note's network learns Fashion-MNIST",
            verdict=decision.verdict,
            open_reason=why,
            measured=words,
            number=", ".join(f"{end:.4f}" for end in ends.values()) or "none",
        )
    ]


def equal_steps(traced: Sequence[Run]) -> list[Claim]:
    """Judge every full step's peak and on what is alive after every step, exactly."""
    result = {one.model: flatness(one) for one in traced if len(one.later_full_steps)}
    if not result:
        return []
    words = "; ".join(
        f"{model}: {_values(one.peaks)} at the peak of each of {one.steps:,} full steps, "
        f"{_values(one.ends)} alive after each step"
        for model, one in result.items()
    )
    flat = all(one.flat for one in result.values())
    grown = max(one.growth_bytes for one in result.values())
    return [
        Claim(
            sentence="From the second on, every full step of a training run takes the same memory "
            "and leaves nothing behind.",
            headline="Every full training step takes the same memory",
            verdict=Verdict.SUPPORTED if flat else Verdict.REFUTED,
            measured=f"Live bytes, traced from before the network was built: {words}. From the "
            f"first step to the last, live bytes grow by {grown:,} bytes. This is equality, not "
            "an estimate.",
            number=f"slope {'exactly 0' if flat else 'not 0'}; growth {grown:,} bytes",
        )
    ]


def _values(values: Sequence[int]) -> str:
    if len(values) == 1:
        return f"{values[0]:,} bytes"
    return f"{len(values)} values from {values[0]:,} to {values[-1]:,} bytes"


def order(orders: pd.DataFrame) -> list[Claim]:
    """Judge what it costs to free the gradients only after the forward pass."""
    costs = {str(model): _cost(part) for model, part in orders.groupby("model", sort=False)}
    if not costs:
        return []
    more = [cost for cost, _ in costs.values()]
    some = Verdict.LIMITED if max(more) > 0 else Verdict.REFUTED
    return [
        Claim(
            sentence="Freeing the gradients only after the forward pass, as the note's trainer "
            "does, raises the peak of a training step.",
            headline="zero_grad after the forward pass raises the peak",
            verdict=Verdict.SUPPORTED if min(more) > 0 else some,
            measured=" ".join(f"{model}: {words}." for model, (_, words) in costs.items())
            + " The old gradients are then alive next to the new activations.",
            number="; ".join(f"{model} {cost:+,} bytes" for model, (cost, _) in costs.items()),
        )
    ]


def _cost(part: pd.DataFrame) -> tuple[int, str]:
    """Return what the note's order adds to the peak, and both peaks with their phases."""
    note, usual = part.to_dict("records")
    cost = int(note["peak_bytes"]) - int(usual["peak_bytes"])
    words = (
        f"{note['peak_bytes']:,} bytes at the peak, in the {note['peak_phase']} pass, against "
        f"{usual['peak_bytes']:,} bytes in the {usual['peak_phase']} pass when they are freed "
        f"before it ({100 * cost / usual['peak_bytes']:+.2g}%)"
    )
    return cost, words


def growth(resident: Sequence[Run]) -> list[Claim]:
    """Judge the growth of what the process holds, step by step."""
    slopes = {one.model: resident_slope(one) for one in resident}
    known = {model: slope for model, slope in slopes.items() if slope is not None}
    if not known:
        return []
    what = HELD[resident[0].device]
    decisions, words = [], []
    for model, slope in known.items():
        low, high = slope.interval(CONFIDENCE)
        decisions.append(is_below(LEAK_BYTES, low=low, high=high, repeats=slope.epochs, rate=1.5))
        words.append(
            f"{model} {slope.estimate:+.3g} bytes a step, 99% interval {low:+.3g} to {high:+.3g}, "
            f"which is {slope.grown_bytes / 1024:+.3g} KiB over {slope.epochs} epochs of "
            f"{slope.steps_per_epoch} steps"
        )
    decision = _all(decisions)
    return [
        Claim(
            sentence=what.sentence,
            headline="A training run does not leak",
            verdict=decision.verdict,
            open_reason=decision.reason("epochs"),
            measured=f"{what.title} against the step, from the second epoch on: "
            f"{'; '.join(words)}. A batch that is never freed would add 786 KiB a step. "
            f"{what.note}{decision.remark('epochs')}",
            number="; ".join(f"{slope.estimate:+.3g} bytes a step" for slope in known.values()),
        )
    ]
