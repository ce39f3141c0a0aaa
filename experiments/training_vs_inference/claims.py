"""Claims: training needs more memory than inference, for activations, and more with depth."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.analysis.decisions import ROUGHLY
from harness.analysis.judge import decided, judge_cells
from harness.analysis.stated_claims import stated
from harness.schema.findings import Claim

from .pairs import base, more

SIGNIFICANT = 2.0
"""The note's "significantly more": at least this many times as much."""
AXES = ["optimizer", "depth", "width", "batch"]


def _named(row: Mapping[Any, Any]) -> str:
    names = {"sgd": "SGD", "adam": "Adam"}
    kind = names.get(str(row["optimizer"]), str(row["optimizer"]))
    return f"{kind}, depth {row['depth']}, width {row['width']}, batch {row['batch']}"


def more_verdict(table: pd.DataFrame, missing: int) -> Claim:
    """Judge whether training needs at least twice as much as inference."""
    rows = table.sort_values("ratio").to_dict("records")
    low, high = rows[0], rows[-1]
    twice = table["ratio"] >= SIGNIFICANT
    less = (
        " It is less than twice in shallow networks, which keep few activations, and at small "
        "batches with SGD, where the gradients only double the parameters."
    )
    return decided(
        judge_cells(table, twice, AXES, missing=missing),
        **stated(__file__, "more"),
        measured=f"The peak of a training step is {low['ratio']:.3g} times ({_named(low)}) to "
        f"{high['ratio']:.3g} times ({_named(high)}) that of inference, with a median of "
        f"{table['ratio'].median():.3g}.{'' if twice.all() else less}",
        number=f"{low['ratio']:.3g} to {high['ratio']:.3g} times as much; at least twice in "
        f"{int(twice.sum())} of {len(table)} cells",
    )


def reasons_verdict(table: pd.DataFrame, missing: int) -> Claim:
    """Judge whether held activations are a part of the difference that counts."""
    share = (table[more("activation")] / table["difference_bytes"]).astype("float64")
    reason = (table["difference_bytes"] > 0) & (share > ROUGHLY)
    led = table["leading"].value_counts()
    words = ", ".join(f"{str(name).replace('_', ' ')} in {number}" for name, number in led.items())
    return decided(
        judge_cells(table, reason, AXES, missing=missing),
        **stated(__file__, "reasons", roughly=f"{ROUGHLY:.0%}"),
        measured=f"Kept activations are {100 * share.min():.3g} to {100 * share.max():.3g}% of the "
        f"difference. The largest part of it is {words} of {len(table)} cells. With small batches "
        "the largest parts are gradients, which take as many bytes as the parameters, and Adam's "
        "state, which takes twice as many. Both belong to training, but they are not intermediate "
        "values.",
        number=f"more than {ROUGHLY:.0%} of the difference in {int(reason.sum())} of {len(table)} "
        "cells",
    )


def depth_verdict(table: pd.DataFrame, missing: int) -> Claim:
    """Judge whether the ratio grows with depth, for each optimizer and batch."""
    own = base(table).sort_values(["optimizer", "batch", "depth"])
    rows = [
        {
            "optimizer": part["optimizer"].iloc[0],
            "batch": int(part["batch"].iloc[0]),
            "rise": float(part["ratio"].iloc[-1] / part["ratio"].iloc[0]),
            "steady": bool((part["ratio"].diff().dropna() > 0).all()),
        }
        for _, part in own.groupby(["optimizer", "batch"])
        if part["depth"].nunique() > 1
    ]
    lines = pd.DataFrame(rows, columns=["optimizer", "batch", "rise", "steady"])
    grows = lines["steady"].astype(bool) & (lines["rise"] > 1 + ROUGHLY)
    last = own.sort_values(["batch", "depth", "optimizer"]).iloc[-1]
    width, features = int(last["width"]), int(last["in_features"])
    rise = "unknown"
    if rows:
        rise = f"{lines['rise'].min():.3g} to {lines['rise'].max():.3g} times as large"
    return decided(
        judge_cells(lines, grows, ["optimizer", "batch"], missing=missing),
        **stated(__file__, "depth", roughly=f"{ROUGHLY:.0%}"),
        measured=f"From depth {own['depth'].min()} to {own['depth'].max()} the ratio becomes "
        f"{rise}. At batch {last['batch']} it approaches {last['limit']:.3g}, the limit for "
        "ever larger batches. Each layer adds width / (features + 2·width) = "
        f"{width / (features + 2 * width):.3g} to the limit, and never more than ½. At small "
        "batches parameters and gradients grow in the same proportion.",
        number=f"grows at {int(grows.sum())} of {len(lines)} pairs of optimizer and batch, "
        f"to {own['ratio'].max():.3g} times",
    )
