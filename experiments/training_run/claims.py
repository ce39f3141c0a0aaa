"""Judges the claims on equal memory in all steps, on growth, and on the order of ``zero_grad``."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from harness.analysis.claim_data import claim_data
from harness.analysis.claim_judge import judged, told
from harness.analysis.decisions import CONFIDENCE, Decided, exactly, is_below
from harness.analysis.judge import Part, judge
from harness.schema.findings import Claim, Verdict

from .growth import PAGE_BYTES, Slope, flatness, resident_slope
from .runs import TRAIN, Run

LEAK_BYTES = claim_data(__file__, "growth").limit


@dataclass(frozen=True, kw_only=True)
class _Held:
    """Texts of the report about the memory of a training run, on the CPU or on a GPU."""

    title: str
    sentence: str
    note: str


HELD = {
    "cpu": _Held(
        title="RSS",
        sentence=f"The process does not leak while it trains (less than {LEAK_BYTES:g} bytes a "
        "step).",
        note="RSS also contains the heap of the interpreter and of the measuring code.",
    ),
    "cuda": _Held(
        title="Reserved GPU memory",
        sentence="What a run reserves on the GPU does not grow while it trains (less than "
        f"{LEAK_BYTES:g} bytes a step).",
        note="The caching allocator reserves whole segments of at least 2 MiB.",
    ),
}


def equal_steps(traced: Sequence[Run], missing: int) -> Claim:
    """Judge whether all full steps have equal peaks, and all steps end with equal live bytes."""
    known = {one.model: flatness(one) for one in traced if len(one.later_full_steps)}
    rows = [("full", model, int(one.flat)) for model, one in known.items()]
    rows += [
        (
            "every",
            one.model,
            int(one.steps.loc[one.steps["kind"] == TRAIN, "peak_bytes"].nunique() == 1),
        )
        for one in traced
    ]
    words = " ".join(
        f"For {model}, {_values(one.peaks)} are alive at the peak of each of {one.steps:,} full "
        f"steps, and {_values(one.ends)} after each step."
        for model, one in known.items()
    )
    return judged(
        __file__,
        "equal_steps",
        pd.DataFrame(rows, columns=["kind", "model", "flat"]),
        missing=missing,
        words=words or "Nothing was traced.",
        grown=max((one.growth_bytes for one in known.values()), key=abs, default=0),
    )


def _values(values: Sequence[int]) -> str:
    if len(values) == 1:
        return f"{values[0]:,} bytes"
    return f"{len(values)} values from {values[0]:,} to {values[-1]:,} bytes"


def order(orders: pd.DataFrame, missing: int) -> Claim:
    """Judge how much higher the peak is if ``zero_grad`` runs after the forward pass."""
    rows, short, long = [], [], []
    for model, part in orders.groupby("model", sort=False):
        note, usual = part.to_dict("records")
        cost = int(note["peak_bytes"]) - int(usual["peak_bytes"])
        share = cost / usual["peak_bytes"]
        rows += [("orders", model, 1 + share), ("itself", model, 1.0)]
        short.append(f"{model} {cost:+,} bytes ({share:+.1%})")
        long.append(
            f"For {model}, the peak of {note['peak_bytes']:,} bytes is in the {note['peak_phase']} "
            f"pass. If the gradients are freed first, the peak of {usual['peak_bytes']:,} bytes is "
            f"in the {usual['peak_phase']} pass."
        )
    table = pd.DataFrame(rows, columns=["kind", "model", "times"])
    words, sentences = "; ".join(short) or "none", " ".join(long)
    return judged(__file__, "order", table, missing=missing, words=words, long=sentences)


def growth(resident: Sequence[Run], missing: int) -> Claim | None:
    """Judge the growth of the process's memory, epoch by epoch."""
    if not resident:
        return None
    slopes = {one.model: resident_slope(one) for one in resident}
    known = {model: slope for model, slope in slopes.items() if slope is not None}
    what = HELD[resident[0].device]
    parts = [Part(name=model, decision=_decide(slope)) for model, slope in slopes.items()]
    parts += [Part(name="a run that failed", decision=_decide(None), cells=missing)]
    first = min(int(one.steps["rise_bytes"].iloc[0]) for one in resident)
    return told(
        __file__,
        "growth",
        judge(parts),
        control=exactly(first < LEAK_BYTES),
        sentence=what.sentence,
        confidence=f"{CONFIDENCE:.0%}",
        title=what.title,
        words="; ".join(f"{one.words} for {model}" for model, one in known.items()) or "unknown",
        note=what.note,
        number="; ".join(str(slope) for slope in known.values()) or "none",
    )


def _decide(slope: Slope | None) -> Decided:
    if slope is None:
        return Decided(verdict=Verdict.OPEN)
    reach = PAGE_BYTES / slope.steps  # pages are counted whole
    low = min(slope.low, slope.estimate - reach)
    high = max(slope.high, slope.estimate + reach)
    return is_below(LEAK_BYTES, low=low, high=high, repeats=slope.epochs)
