"""The frontier at which networks stop fitting: the largest batch against depth, a line a budget."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas

from harness.plots.labels import End, label_ends
from harness.plots.theme import bytes_text, counts_axis, ordered_colours, panels


def frontier(canvas: Canvas, data: pd.DataFrame) -> None:
    """Paint column ``batch`` against ``depth``, a panel a ``series``, a colour a budget.

    Column ``what``: ``predicted`` is a line, ``reproduced`` are points.
    """
    names = [str(name) for name in data["series"].unique()]
    places = panels(canvas, len(names), sharey=True)
    budgets = sorted(int(size) for size in data["budget_bytes"].unique())
    colours = dict(zip(budgets, ordered_colours(len(budgets)), strict=True))
    sizes = data["batch"].to_numpy(dtype=np.float64)
    numbers = _round_numbers(float(sizes.min()), float(sizes.max()))
    for axes, name in zip(places, names, strict=True):
        part = data[data["series"] == name]
        ends = []
        for budget, colour in colours.items():
            own = part[part["budget_bytes"] == budget].sort_values("depth")
            for what, style in (("predicted", "-"), ("reproduced", "o")):
                rows = own[own["what"] == what]
                x, y = (rows[key].to_numpy(dtype=np.float64) for key in ("depth", "batch"))
                axes.plot(x, y, style, color=colour)
            if len(own):
                last = own.iloc[-1]
                at, size = float(last["depth"]), float(last["batch"])
                ends.append(End(x=at, y=size, text=bytes_text(budget), colour=colour))
        counts_axis(axes, (int(at) for at in part.loc[part["what"] == "reproduced", "depth"]))
        counts_axis(axes, numbers, which="y", words="{:,.0f}")
        axes.set_ylim(float(sizes.min()) / 1.3, float(sizes.max()) * 1.3)
        axes.set_title(name[0].upper() + name[1:])
        axes.set_xlabel("depth (hidden layers)")
        label_ends(axes, ends, "budget")
    places[0].set_ylabel("largest batch that fits")


def _round_numbers(low: float, high: float) -> list[int]:
    """Return 1, 2 and 5 times the powers of ten from just below ``low`` to just above ``high``."""
    powers = range(int(np.log10(low)), int(np.log10(high)) + 1)
    numbers = [first * 10**power for power in powers for first in (1, 2, 5)]
    return [number for number in numbers if low / 2 <= number <= 2 * high]
