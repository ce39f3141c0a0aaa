"""The ratio against depth and width, and what both peaks are made of."""

import pandas as pd

from harness.analysis.frame import AT_PEAK, ends, ok_cells
from harness.reporting import claim_figures
from harness.schema.findings import Figure

from .pairs import base

RUNS = {"inference": "inference", "sgd": "training, SGD", "adam": "training, Adam"}


def _panels(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(panel=table["optimizer"].map({"sgd": "SGD", "adam": "Adam"}))


def depth_figure(table: pd.DataFrame) -> Figure | None:
    """Return the ratio against depth, a line per batch."""
    own = _panels(base(table))
    if own["depth"].nunique() < 2:
        return None
    return claim_figures.lines(
        "ratio-depth",
        "Training's peak divided by inference's, by depth; one line per batch (width "
        f"{own['width'].iloc[0]}). Large batches approach the dashed limit, which grows with "
        "the depth. For small batches gradients and optimizer state set the ratio.",
        own[["panel", "depth", "batch", "ratio", "limit"]],
        x="depth",
        y="ratio",
        line="batch",
        label="times as much as inference",
        scale="ratio",
        heading="Training against inference",
    )


def width_figure(table: pd.DataFrame) -> Figure | None:
    """Return the ratio against width at the smallest and the largest batch."""
    depth = table.groupby("depth")["width"].nunique().idxmax()
    own = _panels(table[table["depth"] == depth])
    extremes = ends(own, "batch")
    if extremes["width"].nunique() < 3:
        return None
    return claim_figures.lines(
        "ratio-width",
        "Training's peak divided by inference's, by width, for the smallest and the "
        f"largest batch (depth {depth}). The limit (dashed) rises with the width, because "
        "wider layers outweigh the examples. Parameters grow with the square of the width, so "
        "a wider network needs a larger batch to come near its limit.",
        extremes[["panel", "width", "batch", "ratio", "limit"]],
        x="width",
        y="ratio",
        line="batch",
        label="times as much as inference",
        scale="ratio",
    )


def composition(frame: pd.DataFrame) -> Figure | None:
    """Return what is alive at the peaks of the deepest network, smallest and largest batch."""
    known = base(ok_cells(frame, *AT_PEAK))
    known = ends(known[known["depth"] == known["depth"].max()], "batch")
    if known.empty:
        return None
    kind = known["optimizer"].where(known["mode"] == "train", "inference")
    known = known.assign(
        run=kind.map(RUNS),
        panel="Batch " + known["batch"].astype("string"),
        place=kind.map(list(RUNS).index),
    )
    shape = known.iloc[0]
    return claim_figures.composition(
        "Categories at the peak of inference and of training (depth "
        f"{shape['depth']}, width {shape['width']}; each panel has its own scale). With "
        "a small batch, training adds gradients and optimizer state. With a large batch it adds "
        "kept activations (green), of which inference has none.",
        known.sort_values(["batch", "place"])[["panel", "run", *AT_PEAK]],
        bar="run",
        size=(9.0, 2.9),
    )
