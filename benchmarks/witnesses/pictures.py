"""Pictures of the chapter on predictions, residuals, and errors by predictor."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter

from benchmarks.witnesses.rows import MIB, Row
from benchmarks.witnesses.runner import Record
from benchmarks.witnesses.scores import Score
from harness.plots.category_colours import BLUE
from harness.plots.theme import INK, QUIET
from harness.reporting.figures import picture
from harness.schema.findings import Figure

OURS = {
    "dry-run": BLUE, "dry-run-on-torch-2-4": "#9ecae1", "estimate": INK, "formula": "#e08214",
}  # fmt: skip
"""Colours of this project's predictors, which come first."""
OTHERS = ("#009E73", "#CC79A7", "#8c510a", "#56B4E9", "#6e5f9e", "#999999", "#c9a800")
"""Colours of other predictors."""


def agreement_figure(rows: Sequence[Row], said: Mapping[str, Record], constant: int) -> Figure:
    """Return the figure of measured against predicted memory of one predictor."""
    sizes = [
        (size + constant, row.measured_bytes)
        for row in rows
        if row.name in said and (size := said[row.name]["predicted_bytes"]) is not None
    ]
    return Figure(
        name="agreement",
        heading="Predicted and measured memory",
        caption=f"Memory that nvidia-smi showed, against the dry run's reserved bytes plus"
        f" {constant // MIB:,} MiB, for {len(sizes):,} trainings of MLPs on an A100.",
        data=pd.DataFrame(sizes, columns=["predicted", "measured"]) / MIB,
        draw=_agreement,
    )


def _agreement(canvas: Canvas, data: pd.DataFrame) -> None:
    axes = canvas.add_subplot()
    ends = [float(data["measured"].min()), float(data["measured"].max())]
    axes.plot(ends, ends, color=QUIET, linewidth=0.8)
    axes.plot(data["predicted"], data["measured"], ".", color=BLUE, markersize=3, alpha=0.5)
    axes.set_xlabel("dry run + constant, MiB")
    axes.set_ylabel("measured, MiB")


def residuals_figure(rows: Sequence[Row], said: Mapping[str, Record], constant: int) -> Figure:
    """Return the figure of one predictor's errors by batch size, which a row's name contains."""
    errors = [
        (int(batch[1]), size + constant - row.measured_bytes, row.measured_bytes)
        for row in rows
        if row.name in said and (size := said[row.name]["predicted_bytes"]) is not None
        if (batch := re.search(r"_batch:(\d+)", row.name))
    ]
    data = pd.DataFrame(errors, columns=["batch", "error", "measured"])
    data["far"] = 100 * data["error"].abs() > data["measured"]
    return Figure(
        name="residuals",
        heading="What is left, by batch size",
        caption=f"Errors of the dry run by batch size; {int(data['far'].sum())} errors exceed 1%.",
        data=data,
        draw=_residuals,
    )


def _residuals(canvas: Canvas, data: pd.DataFrame) -> None:
    axes = canvas.add_subplot()
    for far, part in data.groupby("far"):
        label, colour = ("more than 1% off", OURS["formula"]) if far else ("within 1%", BLUE)
        sizes = part["error"] / MIB
        axes.plot(part["batch"], sizes, ".", color=colour, markersize=4, alpha=0.6, label=label)
    axes.set_xlabel("batch size")
    axes.set_ylabel("dry run + constant - measured, MiB")
    axes.legend(loc="lower left")


def errors_figure(
    rows: Sequence[Row], said: Mapping[str, Mapping[str, Record]], scores: Sequence[Score]
) -> Figure:
    """Return the figure of the share of rows by largest error in MiB, for each predictor.

    A row without an answer has an unlimited error, as in the table.
    """
    errors = [
        (one.predictor, _miss(row, said[one.predictor][row.name], one.constant_bytes) / MIB)
        for one in scores
        for row in rows
        if row.name in said[one.predictor]
    ]
    return Figure(
        name="errors",
        heading="How far predictors are off",
        caption="Share of all trainings whose error is at most this number of MiB, for each"
        " predictor with its best constant. Trainings without an answer are included. Errors below"
        " half a MiB are drawn at half a MiB.",
        data=pd.DataFrame(errors, columns=["predictor", "error"]),
        draw=_errors,
    )


def _miss(row: Row, record: Record, constant: int) -> float:
    size = record["predicted_bytes"]
    return math.inf if size is None else abs(size + constant - row.measured_bytes)


def _errors(canvas: Canvas, data: pd.DataFrame) -> None:
    axes = canvas.add_subplot()
    others = iter(OTHERS * 3)
    for name, part in data.groupby("predictor", sort=False):
        error = part["error"].sort_values().clip(lower=0.5)
        share = 100 * pd.RangeIndex(1, len(error) + 1).to_numpy() / len(error)
        known = np.isfinite(error.to_numpy())
        ours = OURS.get(str(name))
        axes.plot(
            error[known],
            share[known],
            "-" if ours else "--",
            color=ours or next(others),
            label=name,
            linewidth=1.8 if ours else 1.2,
        )
    axes.axvline(2, color=QUIET, linewidth=0.8)
    axes.annotate("a segment, 2 MiB", (2, 1), xytext=(3, 3), textcoords="offset points", fontsize=8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,g}"))
    axes.set_xlim(0.45, 1_000)
    axes.set_ylim(0, 101)
    axes.set_xlabel("error at most, MiB")
    axes.set_ylabel("share of all rows, %")
    canvas.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)


def save(folder: Path, figure: Figure) -> None:
    """Write a picture into ``folder``/figures."""
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    (folder / "figures" / f"{figure.name}.png").write_bytes(picture(figure).png)
