"""LoRA 2021: fine-tuning with low-rank adapters needs a third of the memory.

Adapters reduce the memory of gradients and of optimizer states. The batch size does not change the
memory of gradients and states. With adapters at all linear layers, autograd keeps about the same
bytes as without adapters, and more bytes if the adapters have dropout.
"""

from collections.abc import Iterable

import pandas as pd

from harness.analysis.decisions import ROUGHLY
from harness.analysis.step_runs import Steps
from harness.schema.experiment import Size
from harness.schema.findings import Judgement
from harness.schema.traced_run import StepJob

from .judgements import at, by_law, claim_experiment, decided_by, listed, over, widest
from .pictures import picture

WAYS: dict[str, dict[str, str | float]] = {
    "adapters at attention": {"where": "attention"},
    "adapters everywhere": {"where": "all"},
    "everywhere, with dropout": {"where": "all", "drop": 0.05},
}
FULL = "all trained"

THIRD = 1 / 3
LAYERS, HIDDEN, HEADS, LENGTH, RANK = 8, 1024, 16, 512, 8
BATCHES = {
    Size.QUICK: (1, 8, 64),
    Size.DEFAULT: (1, 2, 4, 8, 16, 32, 64),
}

KEPT = {FULL: 64, "adapters at attention": 44, "adapters everywhere": 64}
"""Bytes that one more layer keeps per input element, without the smaller terms per token."""


def job(way: str, batch: int, layers: int = LAYERS) -> StepJob:
    """Return a step on CUDA that trains all parameters, or only adapters, as ``way`` says."""
    full = way == FULL
    size: dict[str, str | float] = {"layers": layers, "hidden": HIDDEN, "heads": HEADS}
    own: dict[str, str | float] = {"sdpa": True} if full else {**WAYS[way], "rank": RANK}
    return StepJob(
        network=".networks:transformer" if full else ".adapters:adapted",
        arguments={**size, **own},
        batch=batch,
        inputs=(f"{LENGTH}x{HIDDEN}",),
        optimizer="adamw",
        loss="sum",
        device="cuda",
    )


def jobs(size: Size) -> Iterable[StepJob]:
    """Yield steps of each way to train: at every batch, and at batch 1 with one and two layers."""
    for way in (FULL, *WAYS):
        for batch in at(BATCHES, size):
            yield job(way, batch)
        for layers in (1, 2):
            yield job(way, 1, layers)


def parameters(way: str) -> tuple[int, int]:
    """Return the number of all parameters and the number of trained parameters."""
    base = LAYERS * (12 * HIDDEN * HIDDEN + 13 * HIDDEN)
    if way == FULL:
        return base, base
    sizes = [4 * HIDDEN] + ([2 * HIDDEN, 5 * HIDDEN, 5 * HIDDEN] if "every" in way else [])
    small = LAYERS * RANK * sum(sizes)
    return base + small, small


def held_law(way: str) -> int:
    """Return the bytes alive between two steps by the closed form, without the batch."""
    every, trained = parameters(way)
    return 4 * every + 12 * trained


def kept_law(way: str) -> int:
    """Return the bytes that an additional layer keeps for one example, by the closed form."""
    adapters = {FULL: 0, "adapters at attention": 1}.get(way, 4)
    rows = 4 * HEADS + 16 + 4 * RANK * adapters
    dropped = 7 + 4 if "dropout" in way else 0  # masks; a copy of what attention returns
    linear = KEPT.get(way, KEPT["adapters everywhere"] + dropped)
    return LENGTH * (linear * HIDDEN + rows) + 16


def table_of(steps: Steps, size: Size) -> pd.DataFrame:
    """For each way to train and each batch, return the peak and the bytes between steps."""
    rows = []
    for way in (FULL, *WAYS):
        for batch in at(BATCHES, size):
            metrics = steps.metrics(job(way, batch))
            start = metrics.live_at_start_bytes or 0
            counter = metrics.cuda.requested_peak_bytes if metrics.cuda else None
            rows.append(
                {
                    "way": way,
                    "batch": batch,
                    "peak_bytes": metrics.peak_live_bytes or 0,
                    "counter_bytes": counter or 0,
                    "held_bytes": start - batch * (4 * LENGTH * HIDDEN + 8),
                    "held_law_bytes": held_law(way),
                    "saved_bytes": metrics.saved_bytes or 0,
                }
            )
    table = pd.DataFrame(rows)
    full = table[table["way"] == FULL].set_index("batch")["peak_bytes"]
    return table.assign(of_full=table["peak_bytes"] / table["batch"].map(full))


def judge(steps: Steps, size: Size) -> Judgement:
    """Compare the peak of training adapters with the peak of training all parameters."""
    table = table_of(steps, size)
    of_full = table[table["way"] != FULL]
    cases = of_full.assign(holds=of_full["of_full"] <= THIRD * (1 + ROUGHLY))
    kept = {
        way: steps.saved_bytes(job(way, 1, 2)) - steps.saved_bytes(job(way, 1, 1))
        for way in (FULL, *WAYS)
    }
    by_layer = ", ".join(f"{over(kept[way], kept[FULL]):.2f} ({way})" for way in WAYS)
    held = [held_law(way) / held_law(FULL) for way in WAYS]
    low, high = cases["of_full"].min(), cases["of_full"].max()
    return Judgement(
        **decided_by(cases.sort_values("batch"), ["batch", "way"]),
        number=f"peak {low:.2f} times that of training all at batch {at(BATCHES, size)[0]}, up to "
        f"{high:.2f} times at batch {at(BATCHES, size)[-1]}",
        measured="Each number of a step with LoRA is divided by the number of a step that trains "
        f"all parameters. The ratio is {min(held):.2f}–{max(held):.2f} for the bytes held between "
        "steps, and "
        f"{low:.2f}–{high:.2f} for the peak. For the bytes that a further layer keeps, the ratio "
        f"is {by_layer}.",
        checks=(
            *by_law(table, {"held": "held between steps in bytes"}),
            widest(
                "kept by a further layer in bytes", [(kept[way], kept_law(way)) for way in kept]
            ),
            widest(
                "peak in bytes",
                zip(table["peak_bytes"], table["counter_bytes"], strict=True),
                "allocator's own counter",
                gates=True,
            ),
        ),
        figures=(picture("lora_third", of_full, layers=LAYERS, hidden=HIDDEN, length=LENGTH),),
        tables=(listed("batches", "Peak and held bytes by batch", table, "counter_bytes"),),
    )


EXPERIMENT = claim_experiment("lora_third", jobs=jobs, judge=judge)
