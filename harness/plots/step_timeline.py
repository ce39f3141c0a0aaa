"""Draws the live bytes after each event of a step, by category, and marks the phases."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from harness.plots.category_colours import CATEGORY_COLOURS
from harness.plots.theme import INK, PAPER, WIDE, byte_ticks, category_legend, is_narrow
from harness.schema.events import Trace
from harness.schema.findings import Figure
from harness.schema.units import format_bytes

_LETTER_INCHES = 0.09


def timeline_figure(data: pd.DataFrame, *, name: str, caption: str) -> Figure:
    """Return a figure that draws the result of ``live_by_category``, with hover texts."""
    data = thin(data)
    return Figure(
        name=name,
        caption=caption,
        alt=_in_words(data),
        heading="One training step",
        data=data,
        draw=timeline,
        tips=tips,
        size=WIDE,
    )


def _in_words(data: pd.DataFrame) -> str:
    """Return sentences that describe the timeline, the peak and the categories at the peak."""
    peak = data.iloc[int(data["live_bytes"].to_numpy().argmax())]
    sizes = sorted(
        ((int(peak[name]), name) for name in CATEGORY_COLOURS if peak[name]), reverse=True
    )
    made = ", ".join(f"{format_bytes(size)} {name.replace('_', ' ')}" for size, name in sizes)
    start, end = (format_bytes(int(data["live_bytes"].iloc[at])) for at in (0, -1))
    return (
        f"Stacked areas of live bytes by category over {len(data)} allocator events. The step "
        f"starts with {start}, peaks in the {peak['phase']} phase with "
        f"{format_bytes(int(peak['live_bytes']))} ({made}) and ends with {end}."
    )


def timeline(canvas: Canvas, data: pd.DataFrame) -> None:
    """Draw the live bytes as stacked areas; ``data`` is a result of ``live_by_category``."""
    axes = canvas.add_subplot()
    names = [name for name in CATEGORY_COLOURS if data[name].any()]
    x = data["event"].to_numpy(dtype=np.float64)
    layers = [data[name].to_numpy(dtype=np.float64) for name in names]
    colours = [CATEGORY_COLOURS[name] for name in names]
    axes.stackplot(x, *layers, colors=colours, step="post", linewidth=0)
    top = float(data["live_bytes"].max())
    axes.set_xlim(x[0], max(x[-1], x[0] + 1))
    axes.set_ylim(0, top * (1.35 if is_narrow(canvas) else 1.2))
    _phases(axes, data, inches=0.85 * canvas.get_figwidth())
    _peak(axes, data)
    byte_ticks(axes, top, which="y", reach=1.2, count=4)
    axes.set_xlabel("allocator event of the step")
    axes.set_ylabel("live bytes")
    axes.grid(visible=False, axis="x")
    category_legend(canvas, names)


def tips(data: pd.DataFrame, most: int = 240) -> Iterator[tuple[float, float, str]]:
    """Yield hover texts, each for a group of consecutive events, with the peak of the group."""
    size = -(-len(data) // most)
    rows = data.to_dict("records")
    for start in range(0, len(rows) - 1, size):
        row = max(rows[start : start + size], key=lambda row: int(row["live_bytes"]))
        lines = [f"event {row['event']}, {row['phase']}: {row['live_bytes']:,} bytes live"]
        lines += [
            f"{name.replace('_', ' ')} {row[name]:,}" for name in CATEGORY_COLOURS if row[name]
        ]
        stop = rows[min(start + size, len(rows) - 1)]
        yield float(rows[start]["event"]), float(stop["event"]), "\n".join(lines)


def _runs(data: pd.DataFrame) -> Iterator[tuple[str, float, float]]:
    """For each run of events in one phase, yield the phase and the run's first and last event."""
    number = (data["phase"] != data["phase"].shift()).cumsum()
    for _, part in data.groupby(number, sort=True):
        first, last = (float(part["event"].iloc[at]) for at in (0, -1))
        yield str(part["phase"].iloc[0]), first, last


def _phases(axes: Axes, data: pd.DataFrame, *, inches: float) -> None:
    """Mark each phase's start, and write the phase's name if the axes are wide enough."""
    first, last = float(data["event"].iloc[0]), float(data["event"].iloc[-1])
    for name, start, stop in _runs(data):
        if start > first:
            axes.axvline(start - 0.5, color=INK, linewidth=0.8, linestyle=(0, (3, 3)))
        words = name
        if name == "optimizer":  # dropping old gradients opens a step, the update closes it
            words = "zero_grad" if start == first else "update"
        if inches * (stop - start) / ((last - first) or 1.0) < _LETTER_INCHES * len(words):
            continue
        axes.text(
            (start + stop) / 2,
            0.975,
            words,
            transform=axes.get_xaxis_transform(),
            ha="center",
            va="top",
            fontsize=9,
            color=INK,
            fontweight="bold",
        )


def _peak(axes: Axes, data: pd.DataFrame) -> None:
    at = int(data["live_bytes"].to_numpy().argmax())
    event, live = float(data["event"].iloc[at]), int(data["live_bytes"].iloc[at])
    start, stop = next((start, stop) for _, start, stop in _runs(data) if start <= event <= stop)
    left = event - start > stop - event  # where its phase has more room: no line runs through it
    axes.plot([event], [live], "o", color=INK, markersize=4)
    axes.annotate(
        f"peak {format_bytes(live)}",
        (event, live),
        xytext=(-6 if left else 6, 6),
        textcoords="offset points",
        ha="right" if left else "left",
        va="bottom",
        fontsize=9,
        color=INK,
        bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1.5, "alpha": 0.85},
    )


def live_by_category(events: pd.DataFrame) -> pd.DataFrame:
    """Return a data frame of the live bytes after each event of the last step.

    The columns are ``event`` (0 is the state just before the step), ``phase``, one column per
    category, and ``live_bytes``, the sum of all categories.
    """
    sizes = events["size_bytes"].to_numpy(dtype=np.int64)
    names = events["category"].to_numpy(dtype=object)
    alive = {name: np.where(names == name, sizes, 0).cumsum() for name in CATEGORY_COLOURS}
    measured = (events["step"] == events["step"].max()).to_numpy()
    first = int(measured.argmax())
    start = max(first - 1, 0)
    phases = [str(phase) for phase in events["phase"].fillna("").iloc[start:]]
    if first > 0 and len(phases) > 1:
        phases[0] = phases[1]
    table = pd.DataFrame({"event": range(len(phases)), "phase": phases})
    for name in CATEGORY_COLOURS:
        table[name] = alive[name][start:]
    return table.assign(live_bytes=table[list(CATEGORY_COLOURS)].sum(axis=1))


def of_trace(trace: Trace) -> pd.DataFrame:
    """Return ``live_by_category`` of a trace; ``initial_bytes`` are counted as temporary."""
    data = live_by_category(trace.to_frame())
    return data.assign(
        temporary=data["temporary"] + trace.initial_bytes,
        live_bytes=data["live_bytes"] + trace.initial_bytes,
    )


def thin(table: pd.DataFrame, most: int = 1500) -> pd.DataFrame:
    """Return about ``most`` rows of a timeline, each the peak of a group of consecutive events."""
    if len(table) <= most:
        return table
    group = np.arange(len(table)) * most // len(table)
    kept = table.groupby(group, sort=True)["live_bytes"].idxmax()
    rows = sorted({0, len(table) - 1, *map(int, kept)})
    return table.loc[rows].reset_index(drop=True)
