"""The peak by precision, ratios to float32, and a step under autocast."""

import pandas as pd

from harness.analysis import AnalysisError
from harness.analysis.frame import AT_PEAK, ends, ok_cells, read_events
from harness.plots.step_timeline import live_by_category, thin, timeline, tips
from harness.reporting import claim_figures
from harness.schema.experiment import Evidence
from harness.schema.findings import Figure

from . import ratios as precision_effect
from .copies import event_files


def composition(frame: pd.DataFrame) -> Figure | None:
    """Return what the peak is made of in each precision, at the smallest and largest batch."""
    known = ok_cells(frame, *AT_PEAK)
    depth = _shown_depth(known)
    known = known[known["depth"] == depth].assign(label=precision_effect.labels)
    known = ends(known, "batch").sort_values("batch", kind="stable")
    known = known.assign(panel=[f"Depth {depth}, batch {batch}" for batch in known["batch"]])
    return claim_figures.composition(
        "Categories at the peak of a training step, by precision. A narrower type "
        "shrinks every part. Autocast shrinks only activations. With a small batch its copies of "
        "the weights take more bytes than it saves.",
        known[["panel", "label", "depth", "batch", *AT_PEAK]],
        bar="label",
        size=(8.6, 2.6),
    )


def _shown_depth(cells: pd.DataFrame) -> int | None:
    """Return the depth that the figures show: 8, or the largest that was measured."""
    depths = {int(depth) for depth in cells["depth"]}
    return 8 if 8 in depths else max(depths, default=None)


def ratio_figure(table: pd.DataFrame) -> Figure | None:
    """Return saved bytes and peak as multiples of float32's, against the batch."""
    own = table[table["precision"] != "float32"]
    if own.empty:
        return None
    data = pd.concat(
        [
            pd.DataFrame(
                {
                    "panel": title,
                    "precision": own["precision"],
                    "depth": own["depth"],
                    "batch": own["batch"],
                    "times_float32": own[column].astype("float64"),
                }
            )
            for column, title in (("saved_ratio", "Saved for backward"), ("peak_ratio", "Peak"))
        ],
        ignore_index=True,
    )
    depth = _shown_depth(own)
    data = data[data["depth"] == depth]
    return claim_figures.lines(
        "times-float32",
        f"Bytes as a multiple of float32's, against the batch (depth {depth}). "
        "A smaller type saves the same share at every batch. Autocast comes near one half "
        "only for large batches, whose activations outweigh its copies of the weights.",
        data.reset_index(drop=True),
        x="batch",
        y="times_float32",
        line="precision",
        label="times float32",
        scale="ratio",
        marked=(1.0, "as float32"),
        shared=False,
        size=(8.6, 4.0),
    )


def autocast_timeline(evidence: Evidence) -> list[Figure]:
    """Return the live bytes through the traced step."""
    figures = []
    for name, path in event_files(evidence).items():
        try:
            data = thin(live_by_category(read_events(path)))
        except AnalysisError:
            continue
        figures.append(
            Figure(
                name="autocast-timeline",
                caption=f"Live bytes through one training step under autocast ({name}), event by "
                "event. At the end of the forward pass autocast empties its cache.",
                data=data,
                draw=timeline,
                tips=tips,
                size=(8.6, 4.4),
            )
        )
    return figures
