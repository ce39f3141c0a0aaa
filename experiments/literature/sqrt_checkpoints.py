"""Chen et al. 2016: with n layers, checkpoints at every sqrt(n)th layer need least memory.

In units of a layer's input x, with g for the gradients of a layer and segments of k of n layers,
the peak above what is always there is n/k + k while k g <= x: least at k = sqrt(n). Beyond, it is
where the first layers are run again with all other gradients alive: a straight line in k.
"""

import functools
import math
from collections.abc import Iterable

import pandas as pd

from harness.analysis.literature import Steps, tests, widest
from harness.plots.series import series
from harness.schema.experiment import Size
from harness.schema.findings import Figure, Verdict
from harness.schema.literature import Judgement, Source
from harness.schema.step_run import StepJob

FLOAT_BYTES, LABEL_BYTES, LOSS_BYTES = 4, 8, 8

SOURCE = Source(
    citation="Chen, Xu, Zhang, Guestrin 2016, Training Deep Nets with Sublinear Memory Cost, "
    "arXiv:1604.06174",
    quote="We design an algorithm that costs O(sqrt(n)) memory to train a n layer network, with "
    "only the computational cost of an extra forward pass per mini-batch.",
    secondary="the abstract, as aminer.cn repeats it",
    sentence="Of all segments of equal length, those of sqrt(n) layers have the lowest peak.",
    headline="sqrt(n) checkpoints need least memory",
)

CHAINS = {
    "gradients 0.03 of the input": (64, 2048),
    "gradients half of the input": (256, 512),
    "gradients twice the input": (256, 128),
}
"""Width and batch of linear layers with ReLU."""

DEPTHS = {Size.QUICK: 16, Size.DEFAULT: 36, Size.FULL: 36}


def chain_job(depth: int, width: int, batch: int, segment: int) -> StepJob:
    """Return a step of a chain; segment 0 is without checkpoints."""
    return StepJob(
        network=".networks:chain",
        arguments={"depth": depth, "width": width, "segment": segment},
        batch=batch,
        inputs=(str(width),),
        optimizer="none",
        loss="sum",
    )


def segments(depth: int) -> list[int]:
    """Return the lengths that divide the depth."""
    return [length for length in range(1, depth + 1) if depth % length == 0]


def jobs(size: Size) -> Iterable[StepJob]:
    """Return each chain at each length of a segment, and without."""
    for depth in sorted({DEPTHS[Size.QUICK], DEPTHS[size]}):
        for width, batch in CHAINS.values():
            for segment in (0, *segments(depth)):
                yield chain_job(depth, width, batch, segment)


def law(depth: int, width: int, batch: int, segment: int) -> int:
    """Return the peak of a chain's step: the highest of what two backward passes a layer hold."""
    x, g = FLOAT_BYTES * batch * width, FLOAT_BYTES * (width * width + width)
    length = segment or depth
    last = depth // length - 1
    highest = depth * g  # the gradients of the step before
    for before in range(last, -1, -1):  # segments whose inputs are still kept
        for layer in range(length, 0, -1):
            done = (last - before) * length + length - layer
            incoming = x if done else 0
            relu = (before + layer) * x + incoming + x + done * g
            inner = 0 if before == 0 and layer == 1 else x
            linear = (before + layer - 1) * x + x + inner + (done + 1) * g
            highest = max(highest, relu, linear)
    return depth * g + x + LABEL_BYTES * batch + LOSS_BYTES + highest


def judge(steps: Steps, size: Size) -> Judgement:
    """Compare the length with the lowest peak with the square root, network by network."""
    depth = DEPTHS[size]
    table = chain_table(steps, depth)
    best = {str(name): best_lengths(part) for name, part in table.groupby("network", sort=False)}
    root = math.isqrt(depth)
    hits = [lengths == [root] for lengths in best.values()]
    pairs = zip(table["peak_live_bytes"], table["law_bytes"], strict=True)
    words = "; ".join(f"{name}: {_lengths(lengths)}" for name, lengths in best.items())
    return Judgement(
        verdict=Verdict.SUPPORTED
        if all(hits)
        else Verdict.LIMITED
        if any(hits)
        else Verdict.REFUTED,
        number=f"{sum(hits)} of {len(hits)} networks have their minimum at sqrt({depth}) = {root}",
        measured=f"Length of the best segment of {depth} layers. {words}.",
        closed_form="With x for a layer's input, g for its gradients and segments of k of n "
        "layers, the peak above parameters and batch is (n/k + k) x + k g while k g <= x, and "
        "(k + 2) x + (n - k) g beyond, as long as that is more than all gradients, n g.",
        limits="The square root is right where a segment's gradients weigh less than its input "
        "and a layer keeps one tensor of its input's size. A layer that keeps R of them moves the "
        "minimum to sqrt(n / R) layers; gradients that weigh more move it to the longest segment "
        "with k g <= x, and where x < g no segment lowers the peak of these layers at all.",
        checks=(widest("peak in bytes", pairs, "closed form"),),
        figures=(_figure(table),),
    )


def chain_table(steps: Steps, depth: int) -> pd.DataFrame:
    """Return a row for each network and length of segment: the peak, and the law's."""
    rows = [
        {
            "network": name,
            "segment": segment,
            "peak_live_bytes": steps.peak_bytes(chain_job(depth, width, batch, segment)),
            "law_bytes": law(depth, width, batch, segment),
        }
        for name, (width, batch) in CHAINS.items()
        for segment in (0, *segments(depth))
    ]
    return pd.DataFrame(rows)


def best_lengths(part: pd.DataFrame) -> list[int]:
    """Return the lengths with the lowest peak; 0 for the step without checkpoints."""
    lowest = part["peak_live_bytes"].min()
    return [int(one) for one in part.loc[part["peak_live_bytes"] == lowest, "segment"]]


def _lengths(lengths: list[int]) -> str:
    if 0 in lengths:
        return f"none saves anything ({len(lengths) - 1} lengths and no checkpoints are equal)"
    return " or ".join(map(str, lengths))


def _figure(table: pd.DataFrame) -> Figure:
    shown = table[table["segment"] > 0]
    base = table[table["segment"] == 0].set_index("network")["peak_live_bytes"]
    data = shown.assign(
        ratio=shown["peak_live_bytes"] / shown["network"].map(base),
        fit=shown["law_bytes"] / shown["network"].map(base),
    )
    return Figure(
        name="segments",
        caption="Peak over the peak without checkpoints, against the layers of a segment. Points "
        "are traced steps, lines are the closed form.",
        data=data[["network", "segment", "ratio", "fit"]],
        draw=functools.partial(
            series,
            x="segment",
            y="ratio",
            line="network",
            line_label="",
            label="peak / peak without checkpoints",
            x_label="layers of a segment",
            scale="ratio",
        ),
        size=(8.6, 4.2),
    )


EXPERIMENT = tests(SOURCE, title="Checkpoints at the square root", jobs=jobs, judge=judge, order=10)
