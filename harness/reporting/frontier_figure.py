"""Pictures of where networks stop fitting: depth against the largest batch, a line a budget."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter

from harness.reporting.theme import QUIET, bytes_text, counts_axis, ordered_colours


def frontier(canvas: Canvas, data: pd.DataFrame) -> None:
    """Paint column ``batch`` against ``depth``, a panel a ``series``, a colour a budget.

    Column ``what``: ``predicted`` is a line, ``reproduced`` are points.
    """
    names = [str(name) for name in data["series"].unique()]
    panels = canvas.subplots(1, len(names), sharey=True, squeeze=False)[0]
    budgets = sorted(int(size) for size in data["budget_bytes"].unique())
    colours = dict(zip(budgets, ordered_colours(len(budgets)), strict=True))
    for axes, name in zip(panels, names, strict=True):
        part = data[data["series"] == name]
        for budget, colour in colours.items():
            own = part[part["budget_bytes"] == budget].sort_values("depth")
            for what, style in (("predicted", "-"), ("reproduced", "o")):
                rows = own[own["what"] == what]
                x, y = (rows[key].to_numpy(dtype=np.float64) for key in ("depth", "batch"))
                label = bytes_text(budget) if what == "reproduced" else None
                axes.plot(x, y, style, color=colour, label=label)
        counts_axis(axes, (int(at) for at in part.loc[part["what"] == "reproduced", "depth"]))
        axes.set_title(name[0].upper() + name[1:])
        axes.set_xlabel("depth (hidden layers)")
    sizes = data["batch"].to_numpy(dtype=np.float64)
    counts_axis(panels[0], _round_numbers(float(sizes.min()), float(sizes.max())), which="y")
    panels[0].set_ylabel("largest batch that fits (examples)")
    panels[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    handles, texts = panels[0].get_legend_handles_labels()
    canvas.legend(handles[::-1], texts[::-1], title="budget", loc="outside right upper")


def _round_numbers(low: float, high: float) -> list[int]:
    """Return 1, 2 and 5 times the powers of ten from just below ``low`` to just above ``high``."""
    powers = range(int(np.log10(low)), int(np.log10(high)) + 1)
    numbers = [first * 10**power for power in powers for first in (1, 2, 5)]
    return [number for number in numbers if low / 2 <= number <= 2 * high]


def errors(canvas: Canvas, data: pd.DataFrame) -> None:
    """Paint the error of two predictions against depth, a panel a ``series``, in per cent.

    Columns ``live_error_percent`` and ``error_percent``; the grey band is what was promised.
    """
    names = [str(name) for name in data["series"].unique()]
    panels = canvas.subplots(1, len(names), sharey=True, squeeze=False)[0]
    styles = (("live_error_percent", "x", "live bytes alone"), ("error_percent", "o", "modelled"))
    for axes, name in zip(panels, names, strict=True):
        part = data[data["series"] == name]
        axes.axhspan(-0.5, 0.5, color=QUIET, alpha=0.15, linewidth=0)
        axes.axhline(0, color=QUIET, linewidth=1)
        for (column, marker, label), colour in zip(styles, ordered_colours(2), strict=True):
            x, y = (part[key].to_numpy(dtype=np.float64) for key in ("depth", column))
            axes.plot(x, y, marker, color=colour, label=label)
        counts_axis(axes, (int(at) for at in part["depth"]))
        axes.set_title(name[0].upper() + name[1:])
        axes.set_xlabel("depth (hidden layers)")
    panels[0].set_ylabel("predicted batch is too large (+), %")
    handles, texts = panels[0].get_legend_handles_labels()
    canvas.legend(handles, texts, loc="outside right upper")
