"""Claims: half the bits take half the memory, and so does autocast."""

from collections.abc import Mapping

import pandas as pd

from harness.analysis.decisions import ROUGHLY
from harness.analysis.judge import decided, judge_cells
from harness.analysis.stated_claims import stated
from harness.schema.findings import Claim

Missing = Mapping[str, int]
"""Cells of each precision that failed, or whose float32 failed."""


def of(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the rows of one precision."""
    return table[table["precision"] == name].reset_index(drop=True)


def halves(table: pd.DataFrame, missing: Missing) -> Claim | None:
    """Judge bfloat16."""
    return _scaled(table, missing, "bfloat16", 2, "halves")


def doubles(table: pd.DataFrame, missing: Missing) -> Claim | None:
    """Judge float64."""
    return _scaled(table, missing, "float64", 8, "doubles")


def _scaled(
    table: pd.DataFrame, missing: Missing, name: str, size_bytes: int, claim: str
) -> Claim | None:
    """Judge a type of ``size_bytes``: everything but the int64 labels scales with it."""
    own = of(table, name)
    if own.empty:
        return None
    wanted = size_bytes / 4
    saved = int((own["saved_less_labels_ratio"] == wanted).sum())
    held = int((own["parameter_ratio"] == wanted).sum())
    low, high = float(own["peak_ratio"].min()), float(own["peak_ratio"].max())
    columns = ["parameter_ratio", "saved_less_labels_ratio", "peak_ratio"]
    near = ((own[columns] / wanted - 1).abs() <= ROUGHLY).all(axis=1)
    return decided(
        judge_cells(own, near, ["depth", "batch"], missing=missing.get(name, 0)),
        **stated(__file__, claim, roughly=f"{ROUGHLY:.0%}"),
        measured=f"Parameters take exactly {wanted:g} times float32's bytes in {held} of "
        f"{len(own)} cells. So do the bytes saved for backward, without the int64 labels, in "
        f"{saved} of {len(own)}. The peak is {low:.4g} to {high:.4g} times float32's, because "
        "labels and the scratch memory of the matrix library do not change with the type.",
        number=f"{wanted:g} times in {int(near.sum())} of {len(own)} cells; peak {low:.4g} to "
        f"{high:.4g} times",
    )


def autocast(table: pd.DataFrame, missing: Missing) -> Claim | None:
    """Judge whether autocast halves what a step needs."""
    name = "autocast bfloat16"
    own = of(table, name)
    if own.empty:
        return None
    ordered = own.sort_values("saved_ratio")
    low, high = ordered.iloc[0], ordered.iloc[-1]
    peaks = own["peak_ratio"]
    more = int((own["saved_ratio"] >= 1).sum())
    halved = ((own[["saved_ratio", "peak_ratio"]] / 0.5 - 1).abs() <= ROUGHLY).all(axis=1)
    return decided(
        judge_cells(own, halved, ["depth", "batch"], missing=missing.get(name, 0)),
        **stated(__file__, "autocast", roughly=f"{ROUGHLY:.0%}"),
        measured="The bytes saved for backward are "
        f"{low['saved_ratio']:.3g} times float32's at best (depth {low['depth']}, batch "
        f"{low['batch']}) and {high['saved_ratio']:.3g} times at worst (depth {high['depth']}, "
        f"batch {high['batch']}). In {more} of {len(own)} cells autocast keeps as many bytes "
        f"as float32 or more. The peak is {peaks.min():.3g} to {peaks.max():.3g} times "
        "float32's, because parameters and gradients stay float32, and the batch exists twice.",
        number=f"peak {peaks.min():.3g} to {peaks.max():.3g} times float32's",
    )
