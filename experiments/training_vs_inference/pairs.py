"""Each training cell next to the inference cell of its network and batch."""

from typing import Any

import pandas as pd

from harness.analysis.frame import AT_PEAK, ok_cells
from harness.schema.events import CATEGORIES

KEYS = ["depth", "width", "batch", "in_features", "classes"]


PEAK = "peak_live_bytes"


def pairs(frame: pd.DataFrame) -> pd.DataFrame:
    """Return each training cell next to its inference cell.

    Columns: ``optimizer, depth, width, batch, in_features, classes, parameter_bytes``, the two
    peaks (``training_bytes``, ``inference_bytes``), ``ratio``, ``difference_bytes``, the bytes that
    each category adds at the peak (``more_<category>_bytes``, which sum to the difference), the
    category that adds most (``leading``) and the limit of the ratio (``limit``).
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
    """Return the name of the column for the bytes that ``category`` adds at the peak."""
    return f"more_{category}_bytes"


def _limit(table: pd.DataFrame) -> "pd.Series[float]":
    """Return the limit of the ratio as the batch grows; see ``formula_text``."""
    width, features = table["width"], table["in_features"]
    kept = (width * table["depth"] + 2) / (features + 2 * width)
    return (1 + kept).astype("float64")


def named(row: "pd.Series[Any]") -> str:
    """Return the ratio of a pair with its cell, in words."""
    kind = {"sgd": "SGD", "adam": "Adam"}[row["optimizer"]]
    cell = f"depth {row['depth']}, width {row['width']}, batch {row['batch']}"
    return f"{row['ratio']:.3g} ({kind}, {cell})"


def by_depth(table: pd.DataFrame) -> pd.DataFrame:
    """Return the ``rise`` of the ratio from the first depth, for each optimizer and batch.

    ``rise`` is 0 if the ratio does not rise in each step to a deeper network.
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
    """Return training minus inference by the closed form, for ReLU in float32 with SGD.

    The result is the larger of two moments of the backward pass, minus inference's peak of
    ``parameters + batch * (4 * features + 8 * width)``.
    """
    batch, width, classes = table["batch"], table["width"], table["classes"]
    begins = batch * (4 * width * table["depth"] + 8) + 4 * classes * (width + 1) + 8
    ends = table["parameter_bytes"] + batch * (8 - 4 * width) + 8
    return begins.where(begins > ends, ends)


def base(table: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of the most frequent width."""
    commonest = table["width"].mode()  # empty where there are no cells
    return table[table["width"].isin(commonest[:1])]
