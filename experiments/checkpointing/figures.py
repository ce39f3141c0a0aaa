"""Memory and time against the number of segments."""

import functools
import math

import pandas as pd

from harness.analysis.decisions import CONFIDENCE, geometric_ratio
from harness.plots.intervals import ranges
from harness.reporting.claim_figures import lines
from harness.schema.findings import Figure

from .curve import Curve

TICKS = (1, 2, 4, 8, 16, 32, 64)
FITS = 0.99
"""R² above which the law is drawn; a line that misses the points says nothing of them."""


def peaks(result: list[Curve]) -> Figure | None:
    """Return memory against segments, where segments change it at all."""
    shown = [one for one in result if _changes(one)]
    if not shown:
        return None
    data = pd.concat([_with_law(curve) for curve in shown], ignore_index=True)
    return lines(
        "segments",
        "Bytes that a step adds, against the number of checkpointed segments. Points are "
        f"measured. Lines show the law a·k + b·depth/k + c if it fits (R² above {FITS}). Networks "
        "are left out if segments hardly change their memory.",
        data[["panel", "depth", "segments", "rise_bytes", "fit"]],
        x="segments",
        y="rise_bytes",
        line="depth",
        label="bytes added by a step",
        ticks=TICKS,
        shared=False,
        size=(8.6, 3.8),
    )


def _with_law(curve: Curve) -> pd.DataFrame:
    """Return the points of a curve, and the law at every number of segments where it fits."""
    points = curve.table.loc[curve.table["segments"] > 0, ["segments", "rise_bytes"]]
    every = pd.DataFrame({"segments": range(1, curve.depth + 1)}).merge(points, "left")
    k = every["segments"]
    law = curve.a * k + curve.b * -(-curve.depth // k) + curve.c
    return every.assign(
        panel=curve.network, depth=curve.depth, fit=law if curve.r2 > FITS else math.nan
    ).astype({"rise_bytes": "Float64"})


def _changes(curve: Curve) -> bool:
    rise = curve.table.loc[curve.table["segments"] > 0, "rise_bytes"]
    return bool(rise.max() > 1.1 * rise.min())


def times(result: list[Curve]) -> Figure | None:
    """Return the cost in time of each timed curve: its median over the segments, their spread."""
    if not result:
        return None
    rows = []
    for curve in result:
        ratio = curve.table.loc[curve.table["segments"] > 0, "time_ratio"]
        low, middle, high = ratio.quantile([0.05, 0.5, 0.95])
        name = f"{curve.network}, depth {curve.depth}"
        rows.append({"name": name, "estimate": middle, "low": low, "high": high})
    if len(result) >= 3:
        one = geometric_ratio([curve.time_ratio for curve in result], CONFIDENCE)
        ends = {"estimate": one.estimate, "low": one.low, "high": one.high}
        rows.append({"name": "mean of all, 99% interval", **ends})
    return Figure(
        name="times",
        caption="Time of a step with checkpoints, divided by the time without. Dots are medians "
        "over the numbers of segments, and bars are their middle 90%. The last row is the mean of "
        "the networks with the interval that decides. The dashed line is 4/3, the cost of a second "
        "forward pass.",
        data=pd.DataFrame(rows),
        draw=functools.partial(
            ranges, label="times as long as without checkpoints", marked=4 / 3, mark="4/3"
        ),
        size=(8.6, 1.2 + 0.3 * len(rows)),
    )
