"""Pictures of the chapter: measured against predicted, what is left, errors by predictor."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

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

OURS = {"dry-run": BLUE, "estimate": INK, "formula": "#e08214"}
"""Predictors of this project, which come first, and their colours."""


def agreement_figure(rows: Sequence[Row], said: Mapping[str, Record], constant: int) -> Figure:
    """Return measured against predicted memory of one predictor."""
    sizes = [
        (size + constant, row.measured_bytes)
        for row in rows
        if row.name in said and (size := said[row.name]["predicted_bytes"]) is not None
    ]
    return Figure(
        name="agreement",
        caption=f"{len(sizes):,} trainings of MLPs on an A100: what nvidia-smi showed against the"
        f" dry run's reserved bytes plus {constant // MIB:,} MiB.",
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
    """Return the errors of one predictor by the batch size, which is part of a row's name."""
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
        caption=f"Errors of the dry run by batch size; {int(data['far'].sum())} are over 1%.",
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
    """Return the share of rows that each predictor misses by a number of MiB at most."""
    errors = [
        (one.predictor, abs(size + one.constant_bytes - row.measured_bytes) / MIB)
        for one in scores
        for row in rows
        if row.name in said[one.predictor]
        and (size := said[one.predictor][row.name]["predicted_bytes"]) is not None
    ]
    return Figure(
        name="errors",
        caption="Share of the trainings that each predictor, with the constant that suits it best,"
        " misses by at most this number of MiB.",
        data=pd.DataFrame(errors, columns=["predictor", "error"]),
        draw=_errors,
    )


def _errors(canvas: Canvas, data: pd.DataFrame) -> None:
    axes = canvas.add_subplot()
    for name, part in data.groupby("predictor", sort=False):
        error = part["error"].sort_values().clip(lower=0.5)
        share = 100 * pd.RangeIndex(1, len(error) + 1).to_numpy() / len(error)
        ours = OURS.get(str(name))
        axes.plot(
            error,
            share,
            "-" if ours else "--",
            color=ours,
            label=name,
            linewidth=1.8 if ours else 1,
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
    axes.set_xlim(left=0.4)
    axes.set_xlabel("error at most, MiB")
    axes.set_ylabel("share of the rows, %")
    axes.legend(loc="lower right")


def save(folder: Path, figure: Figure) -> None:
    """Write a picture into ``folder``/figures."""
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    (folder / "figures" / f"{figure.name}.png").write_bytes(picture(figure).png)
