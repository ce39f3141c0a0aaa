"""Accuracy, equal steps, growth, and the order of ``zero_grad``."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from harness.analysis.decisions import (
    CONFIDENCE,
    Decision,
    exactly,
    is_above,
    is_below,
    share_interval,
)
from harness.analysis.judge import Part, decided, judge
from harness.analysis.stated_claims import stated
from harness.schema.findings import Claim, Verdict

from .growth import flatness, resident_slope
from .runs import Run

LEARNED = 0.5
"""Share of the validation images that a network must get right; guessing gives a tenth."""


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
        note="One page is 4 KiB. RSS contains the heaps of the interpreter and the instrument.",
    ),
    "cuda": _Held(
        title="Reserved GPU memory",
        holder="the reserved GPU memory",
        sentence="What a run reserves on the GPU does not grow while it trains (less than "
        f"{LEAK_BYTES} bytes a step).",
        note="The caching allocator reserves whole segments of at least 2 MiB.",
    ),
}


def accuracy(result: Sequence[Run]) -> Claim:
    """Judge the accuracy after the note's ten epochs, on the real images."""
    at, images = NOTED_EPOCHS, 10_000
    ends = {
        one.model: float(one.epochs["accuracy"].iloc[at - 1])
        for one in result
        if one.data == "fashion-mnist" and len(one.epochs) >= at
    }
    why = f"the runs are shorter than {at} epochs"
    if max(len(one.epochs) for one in result) >= at:
        why = "no images here; harness doctor says how to get them"
    parts = []
    for model, end in ends.items():
        low, high = share_interval(round(end * images), images)
        decision = is_above(LEARNED, low=low, high=high, repeats=1)
        parts.append(Part(name=model, decision=decision))
    claim = decided(
        judge(parts),
        **stated(__file__, "accuracy", learned=f"{LEARNED:.0%}", epochs=at, images=f"{images:,}"),
        measured=f"Each network was trained with one seed. After {at} epochs the share of correct "
        f"validation images ({images:,} images) is "
        + (", ".join(f"{model} {end:.4f}" for model, end in ends.items()) or "none")
        + ". The 99% interval covers the choice of images. Another seed moves the share by about "
        "one percentage point.",
        number=", ".join(f"{end:.4f}" for end in ends.values()) or "none",
    )
    return claim if ends else dataclasses.replace(claim, open_reason=why)


def equal_steps(traced: Sequence[Run]) -> Claim:
    """Judge every full step's peak and on what is alive after every step, exactly."""
    result = {one.model: flatness(one) for one in traced if len(one.later_full_steps)}
    words = " ".join(
        f"For {model}, {_values(one.peaks)} are alive at the peak of each of {one.steps:,} full "
        f"steps, and {_values(one.ends)} after each step."
        for model, one in result.items()
    )
    grown = max((one.growth_bytes for one in result.values()), key=abs, default=0)
    flat = sum(one.flat for one in result.values())
    return decided(
        judge(Part(name=model, decision=exactly(one.flat)) for model, one in result.items()),
        **stated(__file__, "equal_steps"),
        measured=f"{words or 'Nothing was traced.'} From the first step to the last, live "
        f"bytes grow by {grown:,} bytes. The trace began before the network was built.",
        number=f"equal to the byte for {flat} of {len(result)} networks; growth {grown:,} bytes",
    )


def _values(values: Sequence[int]) -> str:
    if len(values) == 1:
        return f"{values[0]:,} bytes"
    return f"{len(values)} values from {values[0]:,} to {values[-1]:,} bytes"


def order(orders: pd.DataFrame) -> Claim:
    """Judge what it costs to free the gradients only after the forward pass."""
    costs = {str(model): _cost(part) for model, part in orders.groupby("model", sort=False)}
    return decided(
        judge(Part(name=model, decision=exactly(cost > 0)) for model, (cost, _) in costs.items()),
        **stated(__file__, "order"),
        measured=" ".join(f"For {model}, {words}." for model, (_, words) in costs.items())
        + " The old gradients are then alive next to the new activations.",
        number="; ".join(f"{model} {cost:+,} bytes" for model, (cost, _) in costs.items())
        or "none",
    )


def _cost(part: pd.DataFrame) -> tuple[int, str]:
    """Return what the note's order adds to the peak, and both peaks with their phases."""
    note, usual = part.to_dict("records")
    cost = int(note["peak_bytes"]) - int(usual["peak_bytes"])
    words = (
        f"the peak has {note['peak_bytes']:,} bytes in the {note['peak_phase']} pass, against "
        f"{usual['peak_bytes']:,} bytes in the {usual['peak_phase']} pass if the gradients are "
        f"freed first ({100 * cost / usual['peak_bytes']:+.2g}%)"
    )
    return cost, words


def growth(resident: Sequence[Run]) -> Claim | None:
    """Judge the growth of what the process holds, epoch by epoch."""
    if not resident:
        return None
    slopes = {one.model: resident_slope(one) for one in resident}
    known = {model: slope for model, slope in slopes.items() if slope is not None}
    what, parts = HELD[resident[0].device], []
    for model, slope in slopes.items():
        decision = Decision(verdict=Verdict.OPEN)
        if slope is not None:
            ends = {"low": slope.low, "high": slope.high}
            decision = is_below(LEAK_BYTES, **ends, repeats=slope.epochs)
        parts.append(Part(name=model, decision=decision))
    words = [
        f"{slope.estimate:+.3g} bytes a step for {model} (99% interval {slope.low:+.3g} to "
        f"{slope.high:+.3g}, over {slope.epochs} epochs of {slope.steps_per_epoch} steps)"
        for model, slope in known.items()
    ]
    return decided(
        judge(parts),
        **stated(
            __file__,
            "growth",
            sentence=what.sentence,
            confidence=f"{CONFIDENCE:.0%}",
            leak=LEAK_BYTES,
        ),
        measured=f"From the second epoch on, the mean of {what.title} in an epoch, minus that "
        f"of the epoch before, is {'; '.join(words) or 'unknown'}. A batch that is never freed "
        f"would add 786 KiB a step. {what.note}",
        number="; ".join(
            f"{slope.estimate:+.3g} ({slope.low:+.3g} to {slope.high:+.3g}) bytes a step"
            for slope in known.values()
        )
        or "none",
    )
