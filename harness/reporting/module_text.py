"""What ``harness predict TARGET`` prints: the answer first, then where the bytes are."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from harness.schema.terminal_console import PlainConsole
from harness.schema.units import format_bytes

if TYPE_CHECKING:
    from harness.prediction.module.gpu_table import GpuRow
    from harness.prediction.module.layer_table import Layer
    from harness.prediction.module.module_prediction import ModulePrediction

MOST_LAYERS = 40


def print_module_prediction(
    target: str, batch: int, found: "ModulePrediction", largest: int | None
) -> None:
    """Print whether the step fits, its peak, the safe batch, the layers and the notes."""
    console = PlainConsole(highlight=False)

    def line(text: str, style: str = "") -> None:
        console.print(Text(text, style=style), soft_wrap=True)

    if found.card is not None:
        line(str(found.card), "bold")
        safe = "no batch is sure to fit" if largest is None else f"safe up to batch {largest:,}"
        line(safe)
    line(f"{target}, batch {batch:,}: {found.peak_text}; predicted by {found.way}")
    line(f"at the peak: {found.categories_text}")
    if found.layers:
        console.print(layer_table(found.layers, found.peak_live_bytes))
    for note in found.notes:
        line(f"note: {note}")


def layer_table(layers: Sequence["Layer"], peak_bytes: int) -> Table:
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


def print_gpu_table(target: str, batch: int, rows: Sequence["GpuRow"]) -> None:
    """Print which GPUs the step fits on, and how far the batch could grow on each."""
    console = PlainConsole(highlight=False)
    fitting = [row.fit.gpu for row in rows if row.fit.verdict == "fits"]
    smallest = f"fits on {len(fitting)} of {len(rows)} GPUs" if fitting else "fits on no GPU"
    first = f"; the smallest is {fitting[0]}" if fitting else ""
    console.print(Text(f"{target}, batch {batch:,}: {smallest}{first}", style="bold"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("GPU")
    table.add_column("fits")
    for title in ("memory", "reserved peak", "headroom", "largest batch, about"):
        table.add_column(title, justify="right")
    for row in rows:
        fit = row.fit
        headroom = format_bytes(row.headroom_bytes) if row.headroom_bytes >= 0 else "none"
        sizes = (format_bytes(fit.total_bytes), format_bytes(fit.reserved_peak_bytes[1]))
        table.add_row(fit.gpu, fit.verdict, *sizes, headroom, f"{row.largest_batch:,}")
    console.print(table)
    low, high = (size / 2**20 for size in rows[0].fit.outside_bytes)
    console.print(f"note: {low:,.0f}–{high:,.0f} MiB are assumed for the CUDA context")
    console.print("note: the largest batch is interpolated; --gpu NAME finds it exactly")
