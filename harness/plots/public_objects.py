"""Figures that the ``plot()`` methods of public objects return.

The figures have the style of the report. No figure is made with pyplot, so the global state of
matplotlib does not change. A notebook displays a figure, and ``savefig`` writes a figure to a file.
"""

import functools
import io
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, MaxNLocator

from harness.plots.category_colours import BLUE, CATEGORY_COLOURS, VERMILION
from harness.plots.intervals import ranges
from harness.plots.stacked import stacked
from harness.plots.step_timeline import of_trace, thin, timeline
from harness.plots.theme import QUIET, RC, WIDE
from harness.schema.argument_checks import ArgumentError

if TYPE_CHECKING:
    from harness.schema.events import Trace
    from harness.schema.record import Record
    from harness.schema.step_report import StepReport
    from harness.schema.threshold import FoundThreshold


def probes(canvas: Canvas, data: pd.DataFrame, *, solve: str, largest_fit: int | None) -> None:
    """Draw the value of each probe, as a dot if the value fitted the budget, else as a cross."""
    axes = canvas.add_subplot()
    number = np.arange(1, len(data) + 1)
    values = data["value"].to_numpy(dtype=np.float64)
    fits = (data["outcome"] == "ok").to_numpy(dtype=bool)
    axes.plot(number[fits], values[fits], "o", color=BLUE, label="fits")
    axes.plot(number[~fits], values[~fits], "x", color=VERMILION, label="does not fit")
    if largest_fit is not None:
        axes.axhline(largest_fit, color=QUIET, linewidth=0.8, linestyle="--")
        axes.set_title(f"Largest {solve} that fits: {largest_fit:,}")
    if values.max() >= 4 * values.min():  # else no power of two may lie between them
        axes.set_yscale("symlog", base=2, linthresh=1)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("probe")
    axes.set_ylabel(solve)
    axes.legend()


class Picture(Canvas):
    """A matplotlib figure that a notebook cell displays once.

    The figure is displayed when it is created, even in a loop or before a semicolon. A cell
    displays its own figure only once; a later cell can display the figure again.
    """

    _shown_in: int | None = None

    def _ipython_display_(self) -> None:
        notebook = _notebook()
        if notebook is None or notebook.execution_count == self._shown_in:
            return
        self._shown_in = notebook.execution_count
        sys.modules["IPython.display"].display({"image/png": self._repr_png_()}, raw=True)

    def _repr_png_(self) -> bytes:
        png = io.BytesIO()
        self.savefig(png, format="png", dpi=110, facecolor="white")  # readable in the dark
        return png.getvalue()


def _notebook() -> Any:
    """Return IPython's shell if this process is the kernel of a notebook; otherwise None."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell if hasattr(shell, "kernel") else None


def _picture(
    draw: Callable[[Canvas, pd.DataFrame], None], data: pd.DataFrame, size: tuple[float, float]
) -> Picture:
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(RC | {"text.parse_math": False})  # a user's name is no formula
        canvas = Picture(figsize=size, layout="constrained", facecolor="white")
        draw(canvas, data)
        canvas._ipython_display_()
    return canvas


def plot_trace(trace: "Trace") -> Picture:
    """Return a figure of the live bytes by category after each event of the measured step."""
    if not trace.events:
        raise ArgumentError("nothing to plot: the trace has no events")
    return _picture(timeline, thin(of_trace(trace)), WIDE)


def plot_metrics(value: "Record | StepReport") -> Picture:
    """Return a figure of the live bytes at the peak, as one stacked bar."""
    parts = value.categories_at_peak
    if parts is None:
        raise ArgumentError(
            f"nothing to plot: no bytes at the peak are known, outcome {value.outcome}"
        )
    row = {
        "panel": str(getattr(value, "subject", value.workload)),
        "bar": f"peak in {value.peak_phase}",
        **{name: getattr(parts, name) for name in CATEGORY_COLOURS},
    }
    draw = functools.partial(stacked, panel="panel", bar="bar")
    return _picture(draw, pd.DataFrame([row]), (8.6, 1.9))


def plot_threshold(threshold: "FoundThreshold") -> Picture:
    """Return a figure that shows which of the probed values fitted the budget."""
    if not threshold.probes:
        raise ArgumentError("nothing to plot: the threshold has no probes")
    draw = functools.partial(probes, solve=threshold.solve, largest_fit=threshold.largest_fit)
    return _picture(draw, threshold.to_frame(), (7.2, 3.6))


def plot_ranges(
    rows: Sequence[tuple[str, float, float, float]],
    *,
    label: str,
    marked: float,
    mark: str,
    in_bytes: bool = False,
) -> Picture:
    """Return a figure with one line per row; a row is a name and a low, middle and high value."""
    if not rows:
        raise ArgumentError("nothing to plot: there is no value to compare")
    data = pd.DataFrame(rows, columns=["name", "low", "estimate", "high"])
    draw = functools.partial(ranges, label=label, marked=marked, mark=mark, in_bytes=in_bytes)
    lines = sum(len(name) // 60 + 1 for name in data["name"])
    return _picture(draw, data, (8.6, 1.2 + 0.3 * lines))
