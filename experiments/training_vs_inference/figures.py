"""The ratio against depth and width, and what both peaks are made of."""

import functools

import pandas as pd

from harness.analysis.frame import AT_PEAK, ends, ok_cells
from harness.plots.series import series
from harness.reporting import claim_figures
from harness.schema.findings import Figure

from .pairs import base

RUNS = {"inference": "inference", "sgd": "training, SGD", "adam": "training, Adam"}


def _panels(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(panel=table["optimizer"].map({"sgd": "SGD", "adam": "Adam"}))


def depth_figure(table: pd.DataFrame) -> list[Figure]:
    """Return the ratio against depth, a line per batch."""
    own = _panels(base(table))
    if own["depth"].nunique() < 2:
        return []
    return [
        Figure(
            name="ratio-depth",
            caption="Training's peak divided by inference's, by depth; one line per batch (width "
            f"{own['width'].iloc[0]}). Large batches approach the dashed limit, which grows with "
            "the depth. For small batches gradients and optimizer state set the ratio.",
            data=own[["panel", "depth", "batch", "ratio", "limit"]],
            draw=functools.partial(
                series,
                x="depth",
                y="ratio",
                line="batch",
                panel="panel",
                label="times as much as inference",
                scale="ratio",
            ),
            story=True,
            heading="Training against inference",
            size=(8.6, 4.2),
        )
    ]


def width_figure(table: pd.DataFrame) -> list[Figure]:
    """Return the ratio against width at the smallest and the largest batch."""
    depth = table.groupby("depth")["width"].nunique().idxmax()
    own = _panels(table[table["depth"] == depth])
    extremes = ends(own, "batch")
    if extremes["width"].nunique() < 3:
        return []
    return [
        Figure(
            name="ratio-width",
            caption="Training's peak divided by inference's, by width, for the smallest and the "
            f"largest batch (depth {depth}). The limit (dashed) rises with the width, because "
            "wider layers outweigh the examples. Parameters grow with the square of the width, so "
            "a wider network needs a larger batch to come near its limit.",
            data=extremes[["panel", "width", "batch", "ratio", "limit"]],
            draw=functools.partial(
                series,
                x="width",
                y="ratio",
                line="batch",
                panel="panel",
                label="times as much as inference",
                scale="ratio",
            ),
            size=(8.6, 4.2),
        )
    ]


def composition(frame: pd.DataFrame) -> list[Figure]:
    """Return what is alive at the peaks of the deepest network, smallest and largest batch."""
    known = base(ok_cells(frame, *AT_PEAK))
    known = ends(known[known["depth"] == known["depth"].max()], "batch")
    if known.empty:
        return []
    kind = known["optimizer"].where(known["mode"] == "train", "inference")
    known = known.assign(
        run=kind.map(RUNS),
        panel="Batch " + known["batch"].astype("string"),
        place=kind.map(list(RUNS).index),
    )
    shape = known.iloc[0]
    return claim_figures.composition(
        known.sort_values(["batch", "place"])[["panel", "run", *AT_PEAK]],
        panel="panel",
        bar="run",
        caption="Categories at the peak of inference and of training (depth "
        f"{shape['depth']}, width {shape['width']}; each panel has its own scale). With "
        "a small batch, training adds gradients and optimizer state. With a large batch it adds "
        "kept activations (green), of which inference has none.",
        size=(9.0, 2.9),
    )
