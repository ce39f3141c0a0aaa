"""The table of layers that ``harness profile`` and ``harness predict TARGET`` print."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from harness.schema.layer import Layer
from harness.schema.units import format_bytes

MOST_LAYERS = 40


def layer_table(layers: Sequence[Layer], peak_bytes: int) -> Table:
    """Return a row for each layer that holds anything, in the order of the forward pass."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("layer", overflow="fold")
    for title in ("parameters", "saved", "output", "of the peak"):
        table.add_column(title, justify="right")
    rows = [r for r in layers if r.parameter_bytes or r.saved_bytes or r.peak_bytes]
    for row in rows[:MOST_LAYERS]:
        sizes = (row.parameter_bytes, row.saved_bytes, row.output_bytes)
        share = f"{row.peak_bytes / peak_bytes:.1%}" if peak_bytes else ""
        name = f"{row.name or '(network)'} ({row.kind})"
        table.add_row(Text(name), *(format_bytes(s) if s else "" for s in sizes), share)
    if len(rows) > MOST_LAYERS:
        table.add_row(f"... and {len(rows) - MOST_LAYERS} more; --json lists all")
    return table
