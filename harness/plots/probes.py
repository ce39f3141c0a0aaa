"""A search for a threshold: each probed value, in the order of the search."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, MaxNLocator

from harness.plots.theme import (
    QUIET,
)
from harness.schema.category_colours import BLUE, VERMILION


def probes(canvas: Canvas, data: pd.DataFrame, *, solve: str, largest_fit: int | None) -> None:
    """Paint column ``value`` of each probe, a dot where it fitted and a cross where it did not."""
    axes = canvas.add_subplot()
    number = np.arange(1, len(data) + 1)
    values = data["value"].to_numpy(dtype=np.float64)
    fits = (data["outcome"] == "ok").to_numpy(dtype=bool)
    axes.plot(number[fits], values[fits], "o", color=BLUE, label="fits")
    axes.plot(number[~fits], values[~fits], "x", color=VERMILION, label="does not fit")
    if largest_fit is not None:
        axes.axhline(largest_fit, color=QUIET, linewidth=0.8, linestyle="--")
        axes.set_title(f"Largest {solve} that fits: {largest_fit:,}")
    axes.set_yscale("symlog", base=2, linthresh=1)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("probe")
    axes.set_ylabel(solve)
    axes.legend()
