"""The most that the whole process held, and its parts: what the kernel's OOM killer sees."""

import pandas as pd

from harness.analysis.frame import PROCESS_PARTS, ok_cells
from harness.reporting import claim_figures
from harness.schema.findings import Figure, Table
from harness.schema.units import format_bytes

_PEAK = "rss_peak_bytes"


def peak_text(training: pd.DataFrame) -> list[str]:
    """Say how large the process is at most, and from which cell on tensors are half of it."""
    known = _known(training)
    if known.empty:
        return []
    largest = known.sort_values(_PEAK).iloc[-1]
    tensors = int(largest["process.tensors_bytes"])
    rest = known[_PEAK] - known["process.tensors_bytes"]
    led = int((known["process.tensors_bytes"] > rest).sum())
    text = (
        f"The whole process holds {format_bytes(int(known[_PEAK].min()))} to "
        f"{format_bytes(int(largest[_PEAK]))} (VmHWM). Without its tensors it holds "
        f"{format_bytes(int(rest.min()))} to {format_bytes(int(rest.max()))} for the interpreter, "
        "PyTorch's libraries and the heap. At the largest peak tensors take "
        f"{format_bytes(tensors)}. They are more than half of the process in {led} of {len(known)} "
        "cells."
    )
    return [text]


def peak_table(training: pd.DataFrame) -> Table | None:
    """Return the peak of each cell's process with its parts, if any was measured."""
    known = _known(training)
    if known.empty:
        return None
    return Table(
        name="process-peak",
        caption="Resident bytes of the whole process at its peak, by part",
        frame=known[["depth", "batch", _PEAK, *PROCESS_PARTS]],
    )


def peak_figure(training: pd.DataFrame) -> Figure | None:
    """Return the parts by batch at the middle depth, and by depth at the largest batch."""
    known = _known(training)
    if known.empty:
        return None
    depths = sorted(known["depth"].unique())
    depth, batch = depths[len(depths) // 2], known["batch"].max()
    by_batch = known[known["depth"] == depth].assign(panel=f"Depth {depth}, by batch")
    by_depth = known[known["batch"] == batch].assign(panel=f"Batch {batch:,}, by depth")
    bars = [by_batch.assign(bar=by_batch["batch"]), by_depth.assign(bar=by_depth["depth"])]
    data = pd.concat(bars, ignore_index=True)[["panel", "bar", *PROCESS_PARTS]]
    parts = {name: name.removeprefix("process.").removesuffix("_bytes") for name in PROCESS_PARTS}
    return claim_figures.bars(
        "process-peak",
        "Highest resident bytes of the whole process during a step, by part. "
        "Interpreter and libraries are the same in every cell; only tensors grow.",
        data.rename(columns=parts),
        bar="bar",
        bar_label="batch, or depth",
        label="resident bytes at the peak",
        shared=True,
        size=(8.6, 3.4),
    )


def _known(training: pd.DataFrame) -> pd.DataFrame:
    known = ok_cells(training, _PEAK, *PROCESS_PARTS)
    return known.sort_values(["depth", "batch"], ignore_index=True)
