"""Chen et al. 2016: recomputation costs one more forward pass, a third of the arithmetic.

The multiplications of a step are counted, with and without checkpoints. A step is one forward pass
and a backward pass of two, so one more is a third; what is not needed again is not computed again.
"""

from collections.abc import Iterable

import pandas as pd

from harness.analysis.step_runs import Steps
from harness.schema.experiment import Size
from harness.schema.findings import Judgement
from harness.schema.traced_run import StepJob

from .judgements import at, claim_experiment, decided_by, listed, near, over, widest
from .pictures import picture

"""The time is left open: the harness measures bytes."""

THIRD = 1 / 3
WAYS = ("chain", "transformer", "transformer with flash attention")
LAYERS = 16
SEGMENTS = {
    Size.QUICK: (1, 4, 16),
    Size.DEFAULT: (1, 2, 4, 8, 16),
}
CHAIN = {"size": 64, "width": 256}
TRANSFORMER: dict[str, str | int] = {"size": 512, "hidden": 256, "heads": 4}
LENGTHS = 2
"""Sequence of the transformer over its hidden size."""


def job(way: str, segment: int) -> StepJob:
    """Return the count of one network; segment 0 is without checkpoints."""
    flash: dict[str, str | int] = {}
    if way == "transformer with flash attention":
        flash = {"sdpa": True, "dtype": "bfloat16", "device": "cuda"}
    own = {"depth": LAYERS, **CHAIN} if way == "chain" else {"layers": LAYERS, **TRANSFORMER}
    network = "chain" if way == "chain" else "transformer"
    return StepJob(
        network=".arithmetic:flops",
        arguments={"network": network, "segment": segment, **own, **flash},
        device="cuda" if flash else "cpu",
        counts=True,
    )


def jobs(size: Size) -> Iterable[StepJob]:
    """Return every network without checkpoints and at every length of a segment."""
    for way in WAYS:
        for segment in (0, *at(SEGMENTS, size)):
            yield job(way, segment)


def law(way: str, segment: int) -> int:
    """Return the operations of a step from the matmuls, each of two a multiplication.

    The backward pass has two matmuls for each, but the first layer of a chain needs no gradient of
    its input. What is recomputed stops at the last matmul whose result is needed: a transformer
    layer's last one is not.
    """
    if way == "chain":
        one = 2 * CHAIN["size"] * CHAIN["width"] ** 2
        again = LAYERS if segment else 0
        return one * (3 * LAYERS - 1 + again)
    hidden, length = int(TRANSFORMER["hidden"]), int(TRANSFORMER["size"])
    one = 2 * length * hidden**2
    layer = 12 + 2 * LENGTHS
    backward = 2 * layer + (LENGTHS if "flash" in way else 0)  # it computes the scores again
    again = LAYERS * layer - LAYERS // segment * 4 if segment else 0
    return one * (LAYERS * (layer + backward) + again)


def table_of(steps: Steps, size: Size) -> pd.DataFrame:
    """Return the operations of a step by network and segment, over those without checkpoints."""
    rows = []
    for way in WAYS:
        for segment in (0, *at(SEGMENTS, size)):
            found = steps.counted(job(way, segment))
            flops = found["forward"] + found["backward"]
            rows.append((way, segment, found["forward"], flops, law(way, segment)))
    table = pd.DataFrame(rows, columns=["way", "segment", "forward", "operations", "law"])
    base = table[table["segment"] == 0].set_index("way")["operations"]
    pairs = zip(table["way"], table["operations"], strict=True)
    return table.assign(more=[over(total, base[way]) - 1 for way, total in pairs])


def judge(steps: Steps, size: Size) -> Judgement:
    """Compare what checkpoints add with a third."""
    table = table_of(steps, size)
    cases = table[table["segment"] > 0]
    added = 100 * cases["more"]
    ends = (100 * cases.groupby("way", sort=False)["more"].agg(["min", "max"])).itertuples()
    words = "; ".join(f"{way} {low:.1f}–{high:.1f}%" for way, low, high in ends)
    forward = table.groupby("way", sort=False)["forward"].agg(["min", "max"])
    return Judgement(
        **decided_by(cases.assign(holds=near(cases["more"], THIRD)), ["way", "segment"]),
        number=f"{added.min():.1f}–{added.max():.1f}% more operations; time open",
        measured="Checkpoints add these shares of operations, from segments of one layer to one "
        f"segment of {LAYERS} layers: {words}.",
        checks=(
            widest("operations of a step", zip(table["operations"], table["law"], strict=True)),
            widest(
                "operations of the forward pass",
                zip(forward["min"], forward["max"], strict=True),
                "same pass with other segments",
                gates=True,
            ),
        ),
        figures=(picture("recompute_third", table[table["segment"] > 0]),),
        tables=(listed("operations", "Operations of a step", table),),
    )


EXPERIMENT = claim_experiment("recompute_third", jobs=jobs, judge=judge)
