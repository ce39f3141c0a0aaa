"""Draws the growth and the parts of the peak, a GPU's peaks, and timelines of steps."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from harness.analysis import AnalysisError
from harness.analysis.frame import AT_PEAK, ok_cells, read_events
from harness.plots.stacked import owners
from harness.plots.step_timeline import live_by_category, timeline_figure
from harness.reporting.claim_figures import picture
from harness.schema.experiment import Evidence
from harness.schema.findings import Figure
from harness.schema.units import format_bytes

from .proportionality import Growth

DENSE = 49
"""Number of points at which a drawn line is computed."""
SEGMENT_BYTES, LARGE_SEGMENT_BYTES = 2 << 20, 20 << 20
"""The caching allocator requests segments of 2 MiB for blocks up to 1 MiB, and of 20 MiB for blocks
below 10 MiB. For blocks from 10 MiB, the segment is a multiple of 2 MiB."""


def product_figure(training: pd.DataFrame) -> Figure | None:
    """Draw the saved activations and the peak of live bytes against depth x batch."""
    columns = {
        "saved_activation_bytes": "Saved activations",
        "peak_live_bytes": "Alive at the peak",
    }
    known = _over_the_grid(training, *columns)
    product = known["depth"] * known["batch"]
    parts, off = [], []
    for column, panel in columns.items():
        rate = (known[column] / product).astype("float64")
        line = float(rate.median())
        off.append(100 * float((rate / line - 1).abs().max()))
        sizes = {"product": product, "bytes": known[column], "limit": line * product}
        parts.append(known[["depth"]].assign(panel=panel, **sizes))
    return picture(__file__, "product", pd.concat(parts, ignore_index=True), off=off)


def _over_the_grid(training: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Return the sorted cells; an empty frame if only one depth or one batch was measured."""
    known = ok_cells(training, *columns).sort_values(["depth", "batch"], ignore_index=True)
    is_grid = known["depth"].nunique() > 1 and known["batch"].nunique() > 1
    return known if is_grid else known.iloc[:0]


def growth_figure(result: Growth | str | None) -> Figure | None:
    """Draw the peak against depth and against batch, with the exact formula if it is known."""
    if not isinstance(result, Growth):
        return None
    sizes = {"depth": result.depth, "batch": result.batch, "measured": result.values}
    measured = pd.DataFrame(sizes).astype({"measured": "Int64"})
    axes = {
        "Against depth, a line per batch": ("depth", "batch"),
        "Against batch, a line per depth": ("batch", "depth"),
    }
    panels = []
    for panel, (along, line) in axes.items():
        dense = np.geomspace(measured[along].min(), measured[along].max(), DENSE).round()
        points = pd.DataFrame({along: np.unique(dense)})
        between = measured[[line]].drop_duplicates().merge(points, "cross").astype("int64")
        data = between.merge(measured, "outer", on=["depth", "batch"])
        fit = result.at(data["depth"].to_numpy(), data["batch"].to_numpy())
        panels.append(data.assign(panel=panel, at=data[along], line=data[line], fit=fit))
    long = pd.concat(panels, ignore_index=True)[["panel", "at", "line", "measured", "fit"]]
    model = "lines are the exact formula" if result.whole else "no single formula gives all points"
    return picture(__file__, "peak-live-growth", long, model=model)


def owners_map(training: pd.DataFrame) -> Figure | None:
    """Draw a grid of depths and batches with the largest category at each peak."""
    known = _over_the_grid(training, *AT_PEAK, "peak_live_bytes")
    if known.empty:
        return None
    sizes = known[AT_PEAK].astype("int64")
    data = known[["depth", "batch", "peak_live_bytes"]].assign(
        owner=[str(name).rpartition(".")[2] for name in sizes.idxmax(axis=1)],
        share=sizes.max(axis=1) / known["peak_live_bytes"].astype("int64"),
    )
    counts = data["owner"].value_counts()
    led = ", ".join(
        f"{str(name).replace('_', ' ')} in {count} cells" for name, count in counts.items()
    )
    return Figure(
        name="owners",
        caption="Largest category at the peak of a training step, and its share, for each cell. "
        f"The largest category is {led}. If parameters are the largest category, gradients take "
        "as many bytes. Parameters and gradients do not change with the batch.",
        alt=f"A grid of depths and batches. The largest category at the peak is {led}; "
        "activations are the largest category only at large batches.",
        heading="Who owns the peak",
        data=data,
        draw=owners,
        size=(8.6, 4.4),
    )


def composition(training: pd.DataFrame) -> Figure | None:
    """Draw the peak's bytes by category, for the smallest, the middle and the largest batch."""
    known = ok_cells(training, *AT_PEAK)
    if known.empty:
        return None
    batches = sorted(known["batch"].unique())
    chosen = {batches[at] for at in (0, len(batches) // 2, -1)}
    data = known.loc[known["batch"].isin(chosen), ["depth", "batch", *AT_PEAK]]
    data = data.sort_values(["batch", "depth"])
    data.insert(0, "panel", "Batch " + data["batch"].map("{:,}".format).astype("string"))
    deep = data[data["depth"] == data["depth"].max()].iloc[[0, -1]]
    fixed = deep[["categories_at_peak.parameter", "categories_at_peak.gradient"]].sum(axis=1)
    whole = deep[AT_PEAK].sum(axis=1)
    return picture(
        __file__,
        "composition",
        data,
        small=float((fixed / whole).iloc[0]),
        large=float((deep["categories_at_peak.activation"] / whole).iloc[-1]),
        depth=deep["depth"].iloc[0],
        first=deep["batch"].iloc[0],
        last=deep["batch"].iloc[-1],
    )


def cuda_figure(training: pd.DataFrame) -> Figure | None:
    """Draw a GPU's peaks against the batch at a few depths; return None without GPU records."""
    columns = {"reserved": "cuda.reserved_peak_bytes", "allocated": "cuda.allocated_peak_bytes"}
    if training[list(columns.values())].isna().all(axis=None):
        return None
    known = _over_the_grid(training, *columns.values())
    depths = sorted(known["depth"].unique())
    last = known.groupby("depth")[["batch", columns["allocated"]]].transform("last")
    slope = (last[columns["allocated"]] / last["batch"]).astype("float64")
    panel = [f"Depth {depth}" for depth in known["depth"]]
    cells = known[["depth", "batch"]].assign(panel=panel, limit=slope * known["batch"])
    long = [cells.assign(peak=name, bytes=known[column]) for name, column in columns.items()]
    data = pd.concat(long, ignore_index=True)
    chosen = {depths[at] for at in (0, len(depths) // 2, -1)} if depths else set()
    whole = int((known[columns["reserved"]] % SEGMENT_BYTES == 0).sum())
    return picture(
        __file__,
        "cuda-peaks",
        data[data["depth"].isin(chosen)].reset_index(drop=True),
        small=format_bytes(SEGMENT_BYTES),
        large=format_bytes(LARGE_SEGMENT_BYTES),
        whole=whole,
        total=len(known),
        deepest=known["depth"].max(),
        end=known.loc[known["depth"] == known["depth"].max(), "batch"].max(),
    )


def timelines(evidence: Evidence) -> tuple[Sequence[Figure], Sequence[str]]:
    """Return the timeline of each saved events file, and messages about invalid events files.

    If an events file is invalid, only the figure of this file is missing.
    """
    frame = evidence.frame
    known = frame[(frame["mode"] == "train") & (frame["outcome"] == "ok")]
    figures, faults = [], []
    for name, depth, batch in known[["workload_id", "depth", "batch"]].itertuples(index=False):
        path = evidence.folder / "events" / f"{name}.csv"
        if not path.is_file():
            continue
        try:
            data = live_by_category(read_events(path))
        except AnalysisError as error:
            faults.append(f"No timeline of depth {depth}, batch {batch}: {error}.")
            continue
        caption = (
            f"Live bytes during one training step (depth {depth}, batch {batch}), event by event. "
            "The forward pass allocates activations. The backward pass frees them while it "
            "allocates gradients. The update allocates nothing, so the figure has no part for it."
        )
        figures.append(timeline_figure(data, name=f"timeline-{depth}-{batch}", caption=caption))
    return figures, faults
