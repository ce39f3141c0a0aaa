"""Compares bytes at powers of two with bytes at neighbouring widths."""

import pandas as pd

from harness.schema.findings import Table

from .pairs import is_power

DEPTH = 2
PARAMETERS, ACTIVATIONS = "categories_at_peak.parameter", "saved_activation_bytes"


def beside_neighbours(sizes: pd.DataFrame) -> pd.DataFrame:
    """Return ``ratio``: the peak at a power of two, divided by the mean peak at the widths ± 1."""
    known = sizes[["batch", "width", "peak_live_bytes"]].astype("int64")
    peaks = {(batch, width): peak for batch, width, peak in known.itertuples(index=False)}
    rows = [
        (batch, width, 2 * peak / (peaks[batch, width - 1] + peaks[batch, width + 1]))
        for (batch, width), peak in peaks.items()
        if is_power(width) and {(batch, width - 1), (batch, width + 1)} <= set(peaks)
    ]
    table = pd.DataFrame(rows, columns=["batch", "width", "ratio"])
    return table.astype({"batch": "int64", "width": "int64", "ratio": "float64"})


def size_table(sizes: pd.DataFrame) -> Table:
    """Return a table with the bytes at each width."""
    columns = ["batch", "width", PARAMETERS, ACTIVATIONS, "peak_live_bytes"]
    table = sizes[columns].rename(columns={PARAMETERS: "parameter_bytes"})
    return Table(
        name="sizes",
        caption=f"Bytes by width at depth {DEPTH}",
        frame=table.sort_values(["batch", "width"], ignore_index=True),
    )
