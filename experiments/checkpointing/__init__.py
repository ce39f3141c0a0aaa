"""Checkpointed segments: memory against their number, and the square-root law.

A checkpointed step keeps the input of each of ``k`` segments and runs one segment at a time
again when backward needs it: about ``k`` tensors, and those of ``depth / k`` layers. Chen et
al. (2016, "Training deep nets with sublinear memory cost") conclude that about the square root
of the depth is best. Three networks test it: one whose activations dwarf its parameters, and
two of the note's width, where gradients count.
"""

import functools
from collections.abc import Iterable

import pandas as pd

from harness.analysis.decisions import CONFIDENCE, Decision, is_within
from harness.analysis.ratio_interval import geometric_ratio
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Figure, Ruling, Section, Table, Verdict
from harness.schema.plots.intervals import ranges
from harness.schema.plots.series import series
from harness.schema.units import format_bytes
from harness.schema.workload import Workload

from . import law
from .law import Curve

NARROW = Workload(in_features=64, width=64, batch=1024)
"""256 KiB an activation, 16.25 KiB a layer's parameters."""
WIDE = Workload(width=256, batch=512)
"""512 KiB an activation, 257 KiB a layer's parameters."""
NOTE = Workload(width=256, batch=256)
"""The note's: 256 KiB an activation, 257 KiB a layer's parameters."""
TICKS = (1, 2, 4, 8, 16, 32, 64)
SECOND_FORWARD = 4 / 3
"""Time of a step with a second forward pass over one without, by arithmetic."""
FAR = 0.1
"""Differences beyond this part are not "about" equal."""


def cells(size: Size) -> Iterable[Workload]:
    """Return each network without checkpoints (three processes) and with 1 to depth segments."""
    if size is Size.QUICK:
        yield from _curve(NARROW.replace(depth=9, batch=256), every=False)
        return
    every = size is Size.FULL
    for depth in (16, 36, 64) if every else (16, 36):
        yield from _curve(NARROW.replace(depth=depth), every=every)
    yield from _curve(WIDE.replace(depth=36), every=every)
    yield from _curve(NOTE.replace(depth=16), every=every)


def _curve(base: Workload, *, every: bool) -> Iterable[Workload]:
    """Yield the segments, an uncheckpointed step before, among and after them.

    Its copies differ in their seed alone: each is measured in a process of its own.
    """
    depth = base.depth
    counts = list(range(1, depth + 1)) if every else _spread(depth)
    third = max(len(counts) // 3, 1)
    for number, segments in enumerate(counts):
        if number % third == 0 and number // third < 3:
            yield base.replace(seed=number // third)
        yield base.replace(checkpoint=segments)


def _spread(depth: int) -> list[int]:
    """Return every divisor of ``depth``, and the numbers around its square root."""
    root = round(depth**0.5)
    divisors = {number for number in range(1, depth + 1) if depth % number == 0}
    return sorted(divisors | {root - 1, root + 1, root + 2})


def analyse(evidence: Evidence) -> Section:
    """Fit the law to each curve and set its optimum next to the measured one."""
    found = law.curves(evidence.frame)
    return Section(
        verdicts=(*_law(found), *_cheaper(found), _time(found)),
        text=(
            *_fit_text(found),
            *_gradient_text(found),
            _time_text(found),
            *_random_text(found, evidence.frame),
        ),
        tables=(
            Table(
                name="laws",
                caption="The law a·segments + b·longest segment + c, fitted to each curve, and "
                "the best number of segments by it, by the square root, and as measured",
                frame=law.laws(found),
            ),
            Table(
                name="segments",
                caption="Every cell, next to the step without checkpoints",
                frame=pd.concat([curve.table for curve in found], ignore_index=True),
            ),
        ),
        figures=(*_peaks(found), _times(found)),
    )


def _law(found: list[Curve]) -> list[Verdict]:
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
        chosen = [curve for curve in found if curve.regime == regime]
        if not chosen:
            continue
        excess = max(curve.excess_at_root for curve in chosen)
        within = all(curve.root in curve.best for curve in chosen)
        ruling = Ruling.SUPPORTED if within else Ruling.LIMITED
        words = "; ".join(
            f"depth {curve.depth}: √depth {curve.root}, the fitted law's {curve.optimum_in_words}, "
            f"measured {law.counts_in_words(curve.best)} (R² of the law {curve.r2:.5f})"
            for curve in chosen
        )
        words = f"{words[0].upper()}{words[1:]}. At √depth segments a step adds "
        words += f"{100 * excess:.3g}% more than at the best number, at most."
        verdicts.append(
            Verdict(
                sentence=sentence,
                headline=headlines[regime],
                ruling=Ruling.REFUTED if excess > FAR else ruling,
                measured=words,
                number="; ".join(
                    f"√{curve.depth} = {curve.root}, best {law.counts_in_words(curve.best)}"
                    for curve in chosen
                ),
            )
        )
    return verdicts


def _cheaper(found: list[Curve]) -> list[Verdict]:
    saved = [1 - curve.lowest / curve.without for curve in found]
    words = "; ".join(
        f"{curve.name}: {format_bytes(curve.without)} become {format_bytes(curve.lowest)}"
        for curve in found
    )
    return [
        Verdict(
            sentence="Checkpointing lowers the peak of a training step.",
            ruling=Ruling.SUPPORTED if min(saved) > 0 else Ruling.LIMITED,
            measured=f"What a step adds at its best number of segments ({words}). Where a layer's "
            "gradients are as large as its activation, each freed activation is replaced by a "
            "gradient: the peak is the end of the backward pass, and nothing is saved.",
            number=f"{100 * min(saved):.3g} to {100 * max(saved):.3g}% less than without",
        )
    ]


def _time(found: list[Curve]) -> Verdict:
    """Rule on the time of a second forward pass; each network gives one ratio."""
    middle, low, high = law.time_ratio(found)
    decision, words = Decision(ruling=Ruling.OPEN), ""
    if len(found) >= 3:
        ratio = geometric_ratio([curve.time_ratio for curve in found], CONFIDENCE)
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
    return Verdict(
        sentence="The second forward pass makes a step a third longer (four units of arithmetic "
        "instead of three).",
        headline="Checkpointing makes a step a third longer",
        ruling=decision.ruling,
        open_reason=decision.reason("networks"),
        measured=f"The median over cells of the time with segments over the time without is "
        f"{middle:.3g}; the middle 90% of the cells lie between {low:.3g} and {high:.3g}.{words} "
        f"The claim holds within {FAR:.0%} of 4/3.{decision.words('networks')}",
        number=f"{middle:.3g} times [{low:.3g}, {high:.3g}]; by arithmetic 1.33",
    )


def _fit_text(found: list[Curve]) -> list[str]:
    law = (
        "The law says memory = a·k + b·depth/k + c for k segments, least at k = √(b·depth/a), "
        "which is √depth where a = b. Where k does not divide the depth, the longest segment "
        "counts; the fit uses that. What is fitted is what a step adds to what is alive before it."
    )
    each = [
        f"{curve.name}: a = {format_bytes(round(curve.a))} a segment and b = "
        f"{format_bytes(round(curve.b))} a layer, where one activation has "
        f"{format_bytes(curve.activation_bytes)} and one layer's gradients "
        f"{format_bytes(curve.gradient_bytes)}."
        for curve in found
    ]
    return [law, *each]


def _gradient_text(found: list[Curve]) -> list[str]:
    if all(curve.regime == "activations" for curve in found):
        return []
    text = (
        "Where gradients are not small the peak of a step with several segments comes late: when "
        "the first segment runs again, every other layer's gradient is there. By then the inputs "
        "of the later segments, which the law counts, are gone. So more segments cost nothing "
        "until their inputs outweigh the gradients, and the best number lies beyond √depth."
    )
    return [text]


def _time_text(found: list[Curve]) -> str:
    spreads = [curve.base_spread for curve in found]
    return (
        "How noisy the times are: among the three processes that ran the same step without "
        f"checkpoints, the slowest median is {min(spreads):.3g} to {max(spreads):.3g} times the "
        "fastest. Their bytes are equal in "
        f"{sum(curve.base_equal for curve in found)} of {len(found)} curves."
    )


def _random_text(found: list[Curve], frame: pd.DataFrame) -> list[str]:
    """Say what the law leaves out on the CPU; a GPU's random state is in the host's memory."""
    if (frame["device"] == "cuda").any():
        return []
    most = max(curve.depth for curve in found)
    text = (
        "A segment keeps one thing more than the law counts: the random state, 5,056 bytes on the "
        f"CPU; at most {most} of them are alive here. It is why a is a little larger than b."
    )
    return [text]


def _peaks(found: list[Curve]) -> list[Figure]:
    """Return memory against segments, where segments change it at all."""
    shown = [one for one in found if _changes(one)]
    if not shown:
        return []
    data = pd.concat(
        [
            curve.table.loc[curve.table["segments"] > 0, ["segments", "rise_bytes"]].assign(
                panel=curve.network, depth=curve.depth, fit=curve.fitted
            )
            for curve in shown
        ],
        ignore_index=True,
    )
    figure = Figure(
        name="segments",
        caption="What a step adds to memory, against the number of checkpointed segments: points "
        "are measured, lines are the law a·k + b·depth/k + c. Where activations outweigh "
        "gradients the valley lies at √depth; where gradients count too, the points leave the law. "
        "Networks whose memory the segments hardly change are left out.",
        data=data[["panel", "depth", "segments", "rise_bytes", "fit"]],
        draw=functools.partial(
            series,
            x="segments",
            y="rise_bytes",
            line="depth",
            panel="panel",
            label="bytes added by a step",
            ticks=TICKS,
            shared=False,
        ),
        size=(8.6, 3.8),
    )
    return [figure]


def _changes(curve: Curve) -> bool:
    rise = curve.table.loc[curve.table["segments"] > 0, "rise_bytes"]
    return bool(rise.max() > 1.1 * rise.min())


def _times(found: list[Curve]) -> Figure:
    """Return the cost in time of each curve: its median over the segments, and their spread."""
    rows = []
    for curve in found:
        ratio = curve.table.loc[curve.table["segments"] > 0, "time_ratio"]
        low, middle, high = ratio.quantile([0.05, 0.5, 0.95])
        name = f"{curve.network}, depth {curve.depth}"
        rows.append({"name": name, "estimate": middle, "low": low, "high": high})
    return Figure(
        name="times",
        caption="Time of a step with checkpoints over the same step without: the median over the "
        "numbers of segments (dot) and the middle 90% of them (bar). The dashed line is 4/3, what "
        "the arithmetic of a second forward pass costs.",
        data=pd.DataFrame(rows),
        draw=functools.partial(
            ranges, label="times as long as without checkpoints", marked=4 / 3, mark="4/3"
        ),
        size=(8.6, 1.2 + 0.3 * len(rows)),
    )


EXPERIMENT = Experiment(
    order=70,
    title="Checkpointed segments",
    question="How does memory depend on the number of checkpointed segments, and what does it "
    "cost in time?",
    cells=cells,
    analyse=analyse,
    repeats=3,
)
