"""Draws the ratio of training peak to inference peak against depth, and live bytes by category."""

import pandas as pd

from harness.analysis.frame import AT_PEAK, ends, ok_cells
from harness.reporting.claim_figures import picture
from harness.schema.findings import Figure

from .pairs import base

RUNS = {"inference": "inference", "sgd": "training, SGD", "adam": "training, Adam"}


def depth_figure(table: pd.DataFrame) -> Figure | None:
    """Draw the ratio of training peak to inference peak against depth, with a line per batch."""
    own = base(table).assign(panel=table["optimizer"].map({"sgd": "SGD", "adam": "Adam"}))
    if own["depth"].nunique() < 2:
        return None
    columns = ["panel", "depth", "batch", "ratio", "limit"]
    return picture(__file__, "ratio-depth", own[columns], width=own["width"].iloc[0])


def composition(frame: pd.DataFrame) -> Figure | None:
    """Draw the deepest network's peaks by category, at the smallest and at the largest batch."""
    known = base(ok_cells(frame, *AT_PEAK))
    known = ends(known[known["depth"] == known["depth"].max()], "batch")
    kind = known["optimizer"].where(known["mode"] == "train", "inference")
    known = known.assign(
        run=kind.map(RUNS),
        panel="Batch " + known["batch"].map("{:,}".format).astype("string"),
        place=kind.map(list(RUNS).index),
    ).sort_values(["batch", "place"])
    sizes = {name: known[name].max() for name in ("depth", "width")}
    return picture(__file__, "composition", known[["panel", "run", *AT_PEAK]], **sizes)
