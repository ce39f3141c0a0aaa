"""Joins each training step with the inference step of the same network and batch."""

from typing import Any

import pandas as pd

from harness.analysis.frame import AT_PEAK, ok_cells
from harness.schema.events import CATEGORIES

KEYS = ["depth", "width", "batch", "in_features", "classes"]


PEAK = "peak_live_bytes"


def pairs(frame: pd.DataFrame) -> pd.DataFrame:
    """Return each training step, joined with the inference step of the same network and batch.

    The columns ``training_bytes`` and ``inference_bytes`` are the peaks of the two steps.
    ``more_<category>_bytes`` is the training bytes minus the inference bytes in a category.
    ``leading`` is the category with the largest difference. ``limit`` is the value that the ratio
    of the peaks approaches for very large batches.
    """
    known = ok_cells(frame, PEAK, *AT_PEAK)
    known = known[known["width"].notna() & (known["width"] >= known["classes"])]
    columns = [*KEYS, PEAK, *AT_PEAK]
    train = known.loc[known["mode"] == "train", ["optimizer", *columns]]
    both = train.merge(
        known.loc[known["mode"] == "inference", columns], on=KEYS, suffixes=("", "_inference")
    )
    table = both[["optimizer", *KEYS]].assign(
        parameter_bytes=both["categories_at_peak.parameter"],
        training_bytes=both[PEAK],
        inference_bytes=both[f"{PEAK}_inference"],
        ratio=(both[PEAK] / both[f"{PEAK}_inference"]).astype("float64"),
        difference_bytes=both[PEAK] - both[f"{PEAK}_inference"],
        state_bytes=both["categories_at_peak.optimizer_state"],
    )
    for name, column in zip(CATEGORIES, AT_PEAK, strict=True):
        table[more(name)] = both[column] - both[f"{column}_inference"]
    parts = table[[more(name) for name in CATEGORIES]].astype("int64")
    parts.columns = pd.Index(CATEGORIES)
    table = table.assign(leading=parts.idxmax(axis=1).astype("string"), limit=_limit(table))
    share = (table[more("activation")] / table["difference_bytes"]).astype("float64")
    table = table.assign(share=share.where(table["difference_bytes"] > 0, 0.0))
    order = ["optimizer", "depth", "width", "batch"]
    return table.sort_values(order, ascending=[False, True, True, True], ignore_index=True)


def more(category: str) -> str:
    """Return the name of the column with the difference in bytes of ``category``."""
    return f"more_{category}_bytes"


def _limit(table: pd.DataFrame) -> "pd.Series[float]":
    """Return the value that the ratio of the peaks approaches for very large batches."""
    width, features = table["width"], table["in_features"]
    kept = (width * table["depth"] + 2) / (features + 2 * width)
    return (1 + kept).astype("float64")


def named(row: "pd.Series[Any]") -> str:
    """Return text with a pair's ratio of peaks, optimizer, depth, width and batch."""
    kind = {"sgd": "SGD", "adam": "Adam"}[row["optimizer"]]
    cell = f"depth {row['depth']}, width {row['width']}, batch {row['batch']}"
    return f"{row['ratio']:.3g} ({kind}, {cell})"


def by_depth(table: pd.DataFrame) -> pd.DataFrame:
    """Return ``rise``: the deepest network's ratio of peaks, divided by the shallowest's.

    ``rise`` is 0 unless the ratio increases from each depth to the next depth.
    """
    rows = [
        (*key, float(part["ratio"].iloc[-1] / part["ratio"].iloc[0]) * _rises(part["ratio"]))
        for key, part in base(table).sort_values("depth").groupby(["optimizer", "batch"])
        if part["depth"].nunique() > 1
    ]
    return pd.DataFrame(rows, columns=["optimizer", "batch", "rise"])


def _rises(ratio: "pd.Series[float]") -> bool:
    return bool((ratio.diff().dropna() > 0).all())


def expected_difference(table: pd.DataFrame) -> "pd.Series[int]":
    """Return training peak minus inference peak by the closed form, for ReLU, float32 and SGD.

    The training peak is at the beginning or at the end of the backward pass. The inference peak is
    ``parameters + batch * (4 * features + 8 * width)``.
    """
    batch, width, classes = table["batch"], table["width"], table["classes"]
    begins = batch * (4 * width * table["depth"] + 8) + 4 * classes * (width + 1) + 8
    ends = table["parameter_bytes"] + batch * (8 - 4 * width) + 8
    return begins.where(begins > ends, ends)


def base(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with the most frequent width."""
    commonest = table["width"].mode()  # empty where there are no cells
    return table[table["width"].isin(commonest[:1])]
