"""Draws a step's memory and time against the number of checkpointed segments."""

import functools
import math

import pandas as pd

from harness.analysis.decisions import ROUGHLY
from harness.plots.intervals import ranges
from harness.reporting.claim_figures import picture
from harness.schema.findings import Figure

from .claims import SECOND_FORWARD, slowdown
from .curve import Curve

FITS = 0.99
"""R² above which the fitted formula is drawn; at a lower R², the formula misses measured points."""


def peaks(result: list[Curve]) -> Figure | None:
    """Draw memory against the number of segments, for networks whose memory varies by over 10%."""
    data = [_with_law(one) for one in result if _changes(one)]
    return picture(__file__, "segments", pd.concat(data), fits=FITS) if data else None


def _with_law(curve: Curve) -> pd.DataFrame:
    """Return the measured memory and, if the fit is good, the values of the fitted formula."""
    points = curve.table.loc[curve.table["segments"] > 0, ["segments", "rise_bytes"]]
    every = pd.DataFrame({"segments": range(1, curve.depth + 1)}).merge(points, "left")
    k = every["segments"]
    law = curve.a * k + curve.b * -(-curve.depth // k) + curve.c
    title = curve.network[0].upper() + curve.network[1:]
    return every.assign(
        panel=title, depth=curve.depth, fit=law if curve.r2 > FITS else math.nan
    ).astype({"rise_bytes": "Float64"})


def _changes(curve: Curve) -> bool:
    rise = curve.table.loc[curve.table["segments"] > 0, "rise_bytes"]
    return bool(rise.max() > 1.1 * rise.min())


def times(result: list[Curve]) -> Figure | None:
    """Draw the time of checkpointed steps relative to uncheckpointed steps, with 99% intervals."""
    rows = [
        (one.name, ratio.estimate, ratio.low, ratio.high)
        for one in result
        if (ratio := slowdown(one))
    ]
    if not rows:
        return None
    limits = ((1 - ROUGHLY) * SECOND_FORWARD, (1 + ROUGHLY) * SECOND_FORWARD)
    return Figure(
        name="times",
        heading="The time of a second forward pass",
        caption="Time of a step with checkpoints, divided by the time without checkpoints. Dots "
        "are ratios of means, and bars are the 99% intervals that decide. The dashed line is 4/3, "
        "the cost of a second forward pass. The grey band shows the claim's limits, "
        f"{limits[0]:.3g} and {limits[1]:.3g}.",
        data=pd.DataFrame(rows, columns=["name", "estimate", "low", "high"]),
        draw=functools.partial(
            ranges,
            label="times as long as without checkpoints",
            marked=SECOND_FORWARD,
            mark="4/3",
            band=limits,
        ),
        size=(8.6, 1.4 + 0.3 * len(rows)),
    )
