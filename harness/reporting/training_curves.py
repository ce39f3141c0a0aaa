"""Pictures of a whole training run: accuracy by epoch, memory from the first step to the last."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas

from harness.reporting.curves import STYLES, from_zero
from harness.reporting.theme import QUIET, bytes_text


def accuracy(canvas: Canvas, data: pd.DataFrame, *, level: float) -> None:
    """Paint ``accuracy`` against ``epoch``, a line per ``model``, with ``level`` marked."""
    axes = canvas.add_subplot()
    for model, (colour, marker) in zip(data["model"].unique(), STYLES, strict=False):
        part = data[data["model"] == model]
        x, y = (part[key].to_numpy(dtype=np.float64) for key in ("epoch", "accuracy"))
        axes.plot(x, y, f"{marker}-", color=colour, label=str(model))
    axes.axhline(level, color=QUIET, linewidth=1, linestyle="--")
    axes.annotate(
        f"{level:g}",
        (1, level),
        xycoords=("axes fraction", "data"),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=8.5,
        color=QUIET,
    )
    epochs = sorted({int(epoch) for epoch in data["epoch"]})
    axes.set_xticks(epochs[:: max(1, len(epochs) // 10)])
    axes.set_xlabel("epoch")
    axes.set_ylabel("validation accuracy (share of images)")
    axes.legend(loc="lower right")


def memory(canvas: Canvas, data: pd.DataFrame) -> None:
    """Paint ``size_bytes`` against ``epoch`` (a fraction), a row of panels per ``quantity``.

    A column of panels per ``model``; each ``kind`` of passage has its colour and marker.
    """
    quantities, models = list(data["quantity"].unique()), list(data["model"].unique())
    places = canvas.subplots(len(quantities), len(models), squeeze=False, sharex=True, sharey="row")
    kinds = list(data["kind"].unique())
    for row, quantity in enumerate(quantities):
        top = float(data.loc[data["quantity"] == quantity, "size_bytes"].max())
        for column, model in enumerate(models):
            axes = places[row, column]
            part = data[(data["quantity"] == quantity) & (data["model"] == model)]
            for kind, (colour, marker) in zip(kinds, STYLES, strict=False):
                own = part[part["kind"] == kind]
                x, y = (own[key].to_numpy(dtype=np.float64) for key in ("epoch", "size_bytes"))
                axes.plot(x, y, marker, color=colour, markersize=3, label=str(kind))
            if row == 0:
                axes.set_title(str(model))
        from_zero(places[row, 0], top)
        ticks = places[row, 0].get_yticks()
        for column in range(len(models)):
            places[row, column].set_yticks(ticks, [bytes_text(tick) for tick in ticks])
        places[row, 0].set_ylabel(str(quantity))
    for axes in places[-1]:
        axes.set_xlabel("epochs trained")
    handles, texts = places[0, 0].get_legend_handles_labels()
    canvas.legend(handles, texts, loc="outside lower center", ncols=3)
