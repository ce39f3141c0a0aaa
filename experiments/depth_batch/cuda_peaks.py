"""The figure of a GPU's peaks over depth and batch, next to the CPU's and to the claim."""

from collections.abc import Mapping

import pandas as pd

from harness.analysis.frame import ok_cells
from harness.reporting import claim_figures
from harness.schema.findings import Figure
from harness.schema.units import format_bytes

SEGMENT_BYTES, LARGE_SEGMENT_BYTES = 2 << 20, 20 << 20
"""What the caching allocator asks the driver for: 2 MiB for blocks up to 1 MiB, 20 MiB for blocks
below 10 MiB, and multiples of 2 MiB for larger ones."""


def cuda_peaks_figure(training: pd.DataFrame, on_cpu: Mapping[str, int | None]) -> Figure | None:
    """Return the peaks at a few depths against the batch; nothing without records of a GPU.

    Args:
        training: cells of training steps.
        on_cpu: peak of live bytes of the same step on the CPU, by the cell's workload id.

    """
    columns = [f"cuda.{name}_peak_bytes" for name in ("reserved", "allocated")]
    if not set(columns) <= set(training.columns):
        return None
    known = ok_cells(training, *columns)
    if known["batch"].nunique() < 2:
        return None
    depths = sorted(known["depth"].unique())
    chosen = {depths[0], depths[len(depths) // 2], depths[-1]}
    reserved = known[columns[0]].astype("int64")
    whole = int((reserved % SEGMENT_BYTES == 0).sum())
    data = _long(known, columns, on_cpu)
    batches = sorted({int(batch) for batch in known["batch"]})
    return claim_figures.lines(
        "cuda-peaks",
        "The peak of a training step on a GPU against the batch. Reserved memory grows "
        f"in segments of {format_bytes(SEGMENT_BYTES)} and {format_bytes(LARGE_SEGMENT_BYTES)} "
        f"(a multiple of {format_bytes(SEGMENT_BYTES)} in {whole} of {len(known)} cells). "
        "Allocated memory stays flat as long as parameters, gradients and cuBLAS's workspaces "
        "outweigh the batch. The dashed line is proportional to the batch and passes "
        "through the largest allocated peak. The CPU's peak is predicted for the same step.",
        data[data["depth"].isin(chosen)].reset_index(drop=True),
        x="batch",
        y="bytes",
        line="peak",
        line_label="",
        label="peak of a training step",
        scale="doubling bytes",
        limit="in proportion",
        ticks=batches[::-2][::-1],  # every second, the largest among them
        size=(8.6, 4.0),
        heading="The same step on a GPU",
    )


def _long(
    known: pd.DataFrame, columns: list[str], on_cpu: Mapping[str, int | None]
) -> pd.DataFrame:
    """Return a row for each peak of each cell, and what is in proportion to the largest batch."""
    known = known.sort_values(["depth", "batch"], ignore_index=True)
    last = known.groupby("depth")[["batch", columns[1]]].transform("last").astype("float64")
    parts = {
        "reserved": known[columns[0]],
        "allocated": known[columns[1]],
        "on the CPU": known["workload_id"].map(on_cpu),
    }
    cells = known[["depth", "batch"]].assign(
        panel=[f"Depth {depth}" for depth in known["depth"]],
        limit=last[columns[1]] * known["batch"] / last["batch"],
    )
    long = pd.concat(
        [cells.assign(peak=name, bytes=sizes.astype("Int64")) for name, sizes in parts.items()],
        ignore_index=True,
    )
    return long.dropna(subset=["bytes"])
