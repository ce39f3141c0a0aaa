"""The growth of the peak, who owns it, what it is made of, and the timelines of steps."""

import functools

import numpy as np
import pandas as pd

from harness.analysis import AnalysisError
from harness.analysis.frame import AT_PEAK, ok_cells, read_events
from harness.plots.stacked import owners, ratios_map
from harness.plots.step_timeline import live_by_category, timeline_figure
from harness.plots.theme import WIDE
from harness.reporting import claim_figures
from harness.schema.experiment import Evidence
from harness.schema.findings import Figure

from .proportionality import Growth

DENSE = 49
"""Points of a line between the ends of an axis."""


def claim_figures_of(training: pd.DataFrame) -> list[Figure]:
    """Return the claim itself: bytes against depth x batch, and the peak over it."""
    columns = ["saved_activation_bytes", "peak_live_bytes"]
    known = ok_cells(training, *columns).sort_values(["depth", "batch"], ignore_index=True)
    if known["depth"].nunique() < 2 or known["batch"].nunique() < 2:
        return []
    product = known["depth"] * known["batch"]
    parts, off = [], []
    for column, panel in zip(columns, ("Saved activations", "Alive at the peak"), strict=True):
        rate = known[column] / product
        line = float(rate.median())
        off.append(100 * float((rate / line - 1).abs().max()))
        parts.append(
            known[["depth"]].assign(
                panel=panel, product=product, bytes=known[column], limit=line * product
            )
        )
    over = known[["depth", "batch"]].assign(
        bytes_per_layer_and_example=(known["peak_live_bytes"] / product).astype("float64")
    )
    ends = [f"{end:,.0f}" for end in over["bytes_per_layer_and_example"].agg(["min", "max"])]
    return [
        claim_figures.lines(
            "product",
            "Bytes against layers x batch, with a point for each cell and a colour for "
            "each depth. The dashed line is proportional, as the claim says, and passes through "
            f"the median. Saved activations are at most {off[0]:.2g}% away from it, and the peak "
            f"is up to {off[1]:,.0f}% away.",
            pd.concat(parts, ignore_index=True),
            x="product",
            y="bytes",
            line="depth",
            label="bytes",
            x_label="depth x batch",
            scale="doubling bytes",
            joined=False,
            limit="in proportion",
            ticks=[2**power for power in range(4, 19, 4)],
            size=(8.6, 4.0),
            heading="Layers times batch",
        ),
        Figure(
            name="peak-over-product",
            caption="The peak of a training step divided by layers x batch, in bytes. If the claim "
            f"held for the peak, all cells would be equal. They range from {ends[0]} to {ends[1]}.",
            data=over,
            draw=functools.partial(ratios_map, value="bytes_per_layer_and_example"),
            size=(8.6, 4.0),
        ),
    ]


def growth_figure(result: Growth | None, label: str) -> Figure | None:
    """Return one quantity against depth and against batch, with the model that fits it best."""
    if result is None:
        return None
    cells = result.sample
    measured = pd.DataFrame(
        {"depth": cells.depth, "batch": cells.batch, "measured": cells.values}
    ).astype({"measured": "Int64"})
    model = "lines are the exact formula" if result.whole else "no one formula gives them all"
    axes = (
        ("Against depth, a line per batch", "depth", "batch", "depth (hidden layers)"),
        ("Against batch, a line per depth", "batch", "depth", "batch (examples)"),
    )
    panels = []
    for panel, along, line, _ in axes:
        most = int(measured[along].max())
        dense = np.unique(np.geomspace(measured[along].min(), most, DENSE).round())
        between = measured[[line]].drop_duplicates().merge(pd.DataFrame({along: dense}), "cross")
        data = between.astype("int64").merge(measured, "outer", on=["depth", "batch"])
        fit = result.at(data["depth"].to_numpy(), data["batch"].to_numpy())
        panels.append(data.assign(panel=panel, at=data[along], line=data[line], fit=fit))
    long = pd.concat(panels, ignore_index=True)
    return claim_figures.lines(
        f"{label.lower().replace(' ', '-')}-growth",
        f"{label[0].upper()}{label[1:]} against the depth, with a line for each batch, "
        f"and against the batch. Points are measured; {model}. If a line starts flat, a part of it "
        "does not grow.",
        long[["panel", "at", "line", "measured", "fit"]],
        x="at",
        y="measured",
        line="line",
        line_label="",
        label=label,
        x_label={panel: words for panel, _, _, words in axes},
        scale="doubling bytes",
        size=WIDE,
    )


def owners_map(training: pd.DataFrame) -> Figure | None:
    """Return the map of the category that leads at the peak of each cell."""
    known = ok_cells(training, *AT_PEAK, "peak_live_bytes")
    if known["depth"].nunique() < 2 or known["batch"].nunique() < 2:
        return None
    sizes = known[AT_PEAK].astype("int64")
    data = known[["depth", "batch", "peak_live_bytes"]].assign(
        owner=[str(name).rpartition(".")[2] for name in sizes.idxmax(axis=1)],
        share=sizes.max(axis=1) / known["peak_live_bytes"].astype("int64"),
    )
    counts = data["owner"].value_counts()
    led = ", ".join(f"{str(name).replace('_', ' ')} in {count}" for name, count in counts.items())
    return Figure(
        name="owners",
        caption="The largest category at the peak of a training step, with its share, over "
        "depth and batch. If parameters are the largest, gradients are as large. Neither "
        "changes with the batch.",
        alt=f"A grid of depths and batches. The largest category at the peak is {led} of "
        f"{len(data)} cells; activations lead only at large batches.",
        story=True,
        heading="Who owns the peak",
        data=data.sort_values(["depth", "batch"], ignore_index=True),
        draw=owners,
        size=(8.6, 4.2),
    )


def composition(training: pd.DataFrame) -> Figure | None:
    """Return what the peak is made of, at the smallest, the middle and the largest batch."""
    known = ok_cells(training, *AT_PEAK)
    batches = sorted(known["batch"].unique())
    chosen = {batches[at] for at in (0, len(batches) // 2, -1)} if batches else set()
    data = known.loc[known["batch"].isin(chosen), ["depth", "batch", *AT_PEAK]]
    data = data.sort_values(["batch", "depth"])
    data.insert(0, "panel", "Batch " + data["batch"].astype("string"))
    return claim_figures.composition(
        "Shares of the peak of a training step. With small batches parameters and "
        "gradients are the largest, and they do not change with the batch. With large batches "
        "activations are the largest.",
        data,
        bar="depth",
        bar_label="depth (hidden layers)",
        label="share of the peak, its bytes next to it",
        shares=True,
        size=(8.6, 3.4),
    )


def timelines(evidence: Evidence) -> tuple[list[Figure], list[str]]:
    """Return the timelines of the training cells whose events were kept, and what was wrong.

    An events file that does not hold what it should costs its figure, not the section.
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
            f"Live bytes through one training step (depth {depth}, batch {batch}), event by event. "
            "The forward pass allocates activations. The backward pass frees them while it "
            "allocates gradients. The update needs no more memory."
        )
        figures.append(timeline_figure(data, name=f"timeline-{depth}-{batch}", caption=caption))
    return figures, faults
