"""What ``harness predict TARGET`` prints: the answer first, then where the bytes are."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from harness.profiling.layer_text import layer_table
from harness.schema.terminal_console import PlainConsole
from harness.schema.units import format_bytes

if TYPE_CHECKING:
    from harness.prediction.module.gpu_table import GpuRow
    from harness.prediction.module.module_prediction import ModulePrediction


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
    for title in ("memory", "reserved peak", "headroom", "largest batch"):
        table.add_column(title, justify="right")
    for row in rows:
        fit = row.fit
        headroom = format_bytes(row.headroom_bytes) if row.headroom_bytes >= 0 else "none"
        sizes = (format_bytes(fit.total_bytes), format_bytes(fit.reserved_peak_bytes[1]))
        table.add_row(fit.gpu, fit.verdict, *sizes, headroom, f"{row.largest_batch:,}")
    console.print(table)
    low, high = (size / 2**20 for size in rows[0].fit.outside_bytes)
    console.print(f"note: {low:,.0f}–{high:,.0f} MiB are assumed for the CUDA context")
    if not all(row.is_derived for row in rows):
        console.print("note: kernels depend on the batch; each largest one was searched by itself")
