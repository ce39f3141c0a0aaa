"""Folklore: torch.compile lowers memory, and a smaller activation budget lowers memory more.

The same step runs uncompiled, compiled by Inductor, and compiled with activation budgets. A budget
decides which tensors the compiled code keeps and which tensors it recomputes. The kept bytes follow
the budget, but the peak does not.
"""

from collections.abc import Iterable
from itertools import pairwise

import pandas as pd

from harness.analysis.decisions import ROUGHLY
from harness.analysis.step_runs import Steps
from harness.schema.experiment import Size
from harness.schema.findings import Figure, Judgement
from harness.schema.traced_run import StepJob

from .judgements import at, claim_experiment, decided_by, listed, over, widest
from .pictures import picture

BATCH, LENGTH, HIDDEN = 8, 256, 256
NETWORKS: dict[str, dict[str, str | int]] = {
    "transformer": {"network": "transformer", "layers": 2, "hidden": HIDDEN, "heads": 4},
    "linear-GELU-norm": {"network": "normed", "depth": 4, "width": HIDDEN},
}
BUDGETS = {
    Size.QUICK: (0.0, 0.2, 1.0),
    Size.DEFAULT: (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0),
}


def job(name: str, *, budget: float | None = None, compile: bool = False) -> StepJob:  # noqa: A002
    """Return a step that is uncompiled, compiled by Inductor, or compiled with a budget.

    A step with a budget uses the backend ``aot_eager``, because Inductor would take half a minute
    per step. The backend does not change which tensors are kept.
    """
    own: dict[str, bool | int | float | str | None] = {**NETWORKS[name]}
    network = f".networks:{own.pop('network')}"
    if budget is not None:
        own, network = {"budget": budget, **NETWORKS[name]}, ".compiled:budgeted"
    mode = "aot_eager" if budget is not None else "default" if compile else None
    return StepJob(
        network=network,
        arguments=own,
        batch=BATCH,
        inputs=(f"{LENGTH}x{HIDDEN}",),
        optimizer="none",
        loss="sum",
        compile=mode,
        device="cuda",
    )


def jobs(size: Size) -> Iterable[StepJob]:
    """Yield each network uncompiled, compiled, and with every budget."""
    for name in NETWORKS:
        yield job(name)
        yield job(name, compile=True)
        for budget in at(BUDGETS, size):
            yield job(name, budget=budget)


def table_of(steps: Steps, size: Size) -> pd.DataFrame:
    """Return each step's kept bytes and peak, also divided by the uncompiled step's values."""
    rows = []
    for name in NETWORKS:
        ways = {
            "as written": job(name),
            "compiled": job(name, compile=True),
            **{f"budget {b:g}": job(name, budget=b) for b in at(BUDGETS, size)},
        }
        plain = ways["as written"]
        for way, one in ways.items():
            metrics = steps.metrics(one)
            rows.append(
                {
                    "network": name,
                    "way": way,
                    "kept_bytes": steps.saved_bytes(one),
                    "peak_bytes": steps.peak_bytes(one),
                    "counter_bytes": metrics.cuda.requested_peak_bytes if metrics.cuda else None,
                    "kept_share": over(steps.saved_bytes(one), steps.saved_bytes(plain)),
                    "peak_share": over(steps.peak_bytes(one), steps.peak_bytes(plain)),
                }
            )
    return pd.DataFrame(rows)


def judge(steps: Steps, size: Size) -> Judgement:
    """Compare the compiled peak with the uncompiled peak, and the peaks of different budgets."""
    table = table_of(steps, size)
    share = table.set_index(["network", "way"])["peak_share"]
    budgets = [f"budget {b:g}" for b in at(BUDGETS, size)]
    rows = []
    for name in NETWORKS:
        falls = [share[name, few] < share[name, many] for few, many in pairwise(budgets)]
        rows.append(("compiling", name, share[name, "compiled"] < 1 - ROUGHLY))
        rows.append(("budgets", name, all(falls)))
    cases = pd.DataFrame(rows, columns=["way", "network", "holds"])
    first = next(iter(NETWORKS))
    compiled = share.xs("compiled", level="way")
    words = " ".join(
        f"For “{name}” the ratio is {share[name, 'compiled']:.3f} for the compiled step and "
        f"{share[name, 'budget 0']:.2f} with budget 0; the lowest ratio is {share[name].min():.2f}."
        for name in NETWORKS
    )
    return Judgement(
        **decided_by(cases, ["way", "network"]),
        number=f"compiled {compiled.min():.2f}–{compiled.max():.2f} times eager; with budget 0 "
        f"{share[first, 'budget 0']:.2f} times, lowest {share[first].min():.2f} times",
        measured=f"Each peak is divided by the peak of the uncompiled step. {words}",
        checks=(
            widest(
                "kept with budget 0 in bytes",
                [
                    (steps.saved_bytes(job(name, budget=0.0)), 4 * BATCH * LENGTH * HIDDEN)
                    for name in NETWORKS
                ],
                "closed form (the input)",
            ),
            widest(
                "peak in bytes",
                zip(table["peak_bytes"], table["counter_bytes"], strict=True),
                "allocator's own counter",
                gates=True,
            ),
        ),
        figures=(_figure(table),),
        tables=(
            listed(
                "ways", "Kept bytes and peak of each way to run the step", table, "counter_bytes"
            ),
        ),
    )


def _figure(table: pd.DataFrame) -> Figure:
    rows = table[table["way"].str.startswith("budget")]
    percent = (rows["way"].str.removeprefix("budget ").astype(float) * 100).round().astype(int)
    parts = [
        rows.assign(panel=rows["network"], line=name, budget=percent, share=rows[column])
        for name, column in (("kept", "kept_share"), ("peak", "peak_share"))
    ]
    data = pd.concat(parts, ignore_index=True)
    return picture("compiled_budgets", data)


EXPERIMENT = claim_experiment("compiled_budgets", jobs=jobs, judge=judge)
