"""Tables and figures that several experiments show, made from trials and frames."""

import functools
from collections.abc import Mapping

import pandas as pd

from harness.analysis import AnalysisError, summaries
from harness.analysis.proportionality import Trial
from harness.analysis.timeline import live_by_category, read_events, thin
from harness.analysis.verdicts import training_ratios
from harness.reporting import charts
from harness.reporting.timeline_figure import timeline, tips
from harness.schema.experiment import Evidence
from harness.schema.findings import Figure, Table

WIDE = (8.6, 4.4)


def trial_tables(trials: Mapping[str, Trial]) -> list[Table]:
    """Return doublings, exponents, models and coefficients of all ``trials``, by their labels."""
    return [
        Table(
            name="doublings",
            caption="What one doubling multiplies each quantity by, and from where it is 2",
            frame=summaries.doublings(trials),
        ),
        Table(
            name="exponents",
            caption="Exponents in depth and batch (95 % intervals, HC3)",
            frame=summaries.exponent_table(trials),
        ),
        Table(
            name="models",
            caption="Three models of each quantity, and what the product adds to the sum (F test)",
            frame=summaries.models(trials),
        ),
        Table(
            name="coefficients",
            caption="Coefficients in bytes per unit of their term (95 % intervals, HC3)",
            frame=summaries.coefficients(trials),
        ),
    ]


def trial_figures(result: Trial, label: str) -> list[Figure]:
    """Return heat map and growth of one quantity, and the check of its fit where it has one."""
    data = summaries.fitted_cells(result)
    stem = label.lower().replace(" ", "-")
    title = label[0].upper() + label[1:]
    lines = "the exact formula" if result.whole else "the fitted product model"
    figures = [
        Figure(
            name=f"{stem}-heat",
            caption=f"{title} in training, over depth and batch. Twice the depth with half the "
            "batch (a step up and to the left) would change nothing if only their product counted.",
            data=data[["depth", "batch", "measured"]],
            draw=functools.partial(charts.heat_map, value="measured", label=title),
            size=(7.2, 4.4),
        ),
        Figure(
            name=f"{stem}-growth",
            caption=f"{title} in training: points are measured, lines are {lines}. A line as "
            "steep as the dashed guide grows in proportion; a flatter one carries a part that "
            "does not grow, a steeper one has such a part to make up first.",
            data=data[["depth", "batch", "measured", "best"]],
            draw=functools.partial(charts.growth, value="measured", label=title),
            size=WIDE,
        ),
    ]
    if result.exact is None:
        figures.append(_fit_figure(data, stem, label))
    return figures


def _fit_figure(data: pd.DataFrame, stem: str, label: str) -> Figure:
    return Figure(
        name=f"{stem}-fit",
        caption=f"How well constant + depth + batch + depth·batch give {label} back. Left: on the "
        "grey line is right. Right: the error of each cell; the grey band is ±10 %. Errors in a "
        "pattern mean that one such sum is not the whole story.",
        data=data[["depth", "batch", "measured", "fitted"]],
        draw=functools.partial(charts.fit_check, label=label),
        size=(8.6, 4.0),
    )


def ratio_figures(frame: pd.DataFrame, quantity: str = "peak_live_bytes") -> list[Figure]:
    """Return training's ``quantity`` over prediction's against depth, if both were measured."""
    table = training_ratios(frame, quantity)
    if table.empty:
        return []
    return [
        Figure(
            name="training-over-inference",
            caption="Peak live bytes of a training step over those of prediction. Prediction "
            "forgets each layer as it goes; training keeps them, so with large batches the gap "
            "widens with depth. With small ones it is the gradients that double the parameters.",
            data=table,
            draw=functools.partial(
                charts.ratios, value="ratio", label="Training over prediction, peak live bytes"
            ),
            size=(7.2, 4.4),
        )
    ]


def timelines(evidence: Evidence) -> tuple[list[Figure], list[str]]:
    """Return the timelines of the training cells whose events were kept, and what was wrong.

    An events file that does not hold what it should costs its figure, not the section.
    """
    frame = evidence.frame
    known = frame[(frame["mode"] == "train") & (frame["outcome"] == "ok")]
    figures, faults = [], []
    for name, depth, batch in zip(
        known["workload_id"], known["depth"], known["batch"], strict=True
    ):
        path = evidence.folder / "events" / f"{name}.csv"
        if not path.is_file():
            continue
        try:
            data = thin(live_by_category(read_events(path)))
        except AnalysisError as error:
            faults.append(f"No timeline of depth {depth}, batch {batch}: {error}.")
            continue
        figures.append(
            Figure(
                name=f"timeline-{depth}-{batch}",
                caption=f"Live bytes through one training step (depth {depth}, batch {batch}), "
                "event by event: forward piles up activations, backward takes them down while "
                "gradients come up.",
                data=data,
                draw=timeline,
                tips=tips,
                size=WIDE,
            )
        )
    return figures, faults
