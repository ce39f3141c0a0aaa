"""Lines over a doubling axis, in panels side by side, with the limits that they tend to.

Each function paints ``data`` on an empty canvas, to be handed to a ``Figure`` with
``functools.partial``. Panels stand in the order in which ``data`` first names them.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from harness.reporting.theme import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    QUIET,
    VERMILION,
    bytes_axis,
    bytes_text,
    counts_axis,
    ordered_colours,
)

_SHAPES = ("o", "s", "^", "D", "v", "P", "X")
_DISTINCT = (BLUE, ORANGE, GREEN, VERMILION, PURPLE)
_UNITS = {
    "batch": "batch (examples)",
    "depth": "depth (hidden layers)",
    "width": "width (units)",
}


def ratios(
    canvas: Canvas, data: pd.DataFrame, *, panel: str, along: str, line: str, limit: str = "limit"
) -> None:
    """Paint column ``ratio`` against ``along`` (doublings), a line per value of ``line``.

    Column ``limit`` is drawn dashed: where the ratio tends to; missing values are left out.
    """
    panels = [str(name) for name in data[panel].unique()]
    places = canvas.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    lines = sorted(int(name) for name in data[line].unique())
    styles = dict(
        zip(lines, zip(ordered_colours(len(lines)), _SHAPES * 9, strict=False), strict=True)
    )
    for axes, title in zip(places, panels, strict=True):
        part = data[data[panel].astype(str) == title]
        for name, (colour, shape) in styles.items():
            _line(axes, part[part[line] == name], along, "ratio", colour, shape, f"{name}")
        _limit(axes, part, along, limit)
        axes.axhline(1, color=QUIET, linewidth=1)
        counts_axis(axes, (int(at) for at in part[along].unique()))
        axes.set_title(title)
    places[0].set_ylim(bottom=0)
    places[0].set_ylabel("times as much as prediction")
    _legend(canvas, places[0], line)


def growth(
    canvas: Canvas,
    data: pd.DataFrame,
    *,
    along: str,
    line: str,
    value: str,
    label: str,
    log: bool = True,
) -> None:
    """Paint ``value`` (bytes) against ``along`` (by doublings), a line per ``line``.

    ``log``: the bytes go by doublings too; else they start at zero, and equal gaps look equal.
    """
    axes = canvas.add_subplot()
    names = [str(name) for name in data[line].unique()]
    for name, colour, shape in zip(names, _DISTINCT * 9, _SHAPES * 9, strict=False):
        _line(axes, data[data[line].astype(str) == name], along, value, colour, shape, name)
    counts_axis(axes, _powers(data[along].to_numpy(dtype=np.int64)))
    if log:
        bytes_axis(axes)
    else:
        top = float(data[value].max())
        step = 2.0 ** round(np.log2(max(top, 4) / 4))
        ticks = [step * at for at in range(int(1.1 * top // step) + 1)]
        axes.set_yticks(ticks, [bytes_text(tick) for tick in ticks])
        axes.set_ylim(0, 1.1 * top)
    axes.set_ylabel(label)
    _legend(canvas, axes, line)


def _line(
    axes: Axes, part: pd.DataFrame, along: str, value: str, colour: object, shape: str, name: str
) -> None:
    ordered = part.sort_values(along)
    x, y = (ordered[key].to_numpy(dtype=np.float64) for key in (along, value))
    axes.plot(x, y, marker=shape, color=colour, label=name)
    axes.set_xlabel(_UNITS.get(along, along))


def _limit(axes: Axes, part: pd.DataFrame, along: str, limit: str) -> None:
    known = part.dropna(subset=[limit]).drop_duplicates(along).sort_values(along)
    if len(known):
        x, y = (known[key].to_numpy(dtype=np.float64) for key in (along, limit))
        axes.plot(x, y, "--", color=QUIET, label="limit")


def _powers(values: np.ndarray) -> list[int]:
    low, high = int(values.min()), int(values.max())
    return [2**power for power in range(low.bit_length() - 1, high.bit_length()) if 2**power >= low]


def _legend(canvas: Canvas, axes: Axes, line: str) -> None:
    handles, texts = axes.get_legend_handles_labels()
    canvas.legend(handles, texts, title=line, loc="outside right upper")
