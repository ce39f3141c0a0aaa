"""A step's report on a terminal: the answer first, then where the bytes are."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from harness.reporting.layer_text import layer_table
from harness.schema.events import CATEGORIES
from harness.schema.memory_fit import GpuFit
from harness.schema.terminal_console import PlainConsole
from harness.schema.units import format_bytes
from harness.schema.verdict import FITS

if TYPE_CHECKING:
    from harness.schema.step_report import StepReport


def print_report(report: "StepReport") -> None:
    """Print whether the step fits, its peak, the safe batch, the layers and the notes."""
    console = PlainConsole(highlight=False)

    def line(text: str, style: str = "") -> None:
        console.print(Text(text, style=style), soft_wrap=True)

    for answer in report.answers:
        line(answer, "bold")
    line(f"{report.subject}: {_peak_text(report)}; {report.method}")
    line(f"at the peak: {_categories_text(report)}")
    if report.layers:
        console.print(layer_table(report.layers, report.peak_live_bytes or 0))
    for note in report.notes:
        line(f"note: {note}")


def _peak_text(report: "StepReport") -> str:
    text = f"peak {format_bytes(report.peak_live_bytes or 0)} in the {report.peak_phase} phase"
    if report.cuda is not None and report.cuda.reserved_peak_bytes is not None:
        text += f", reserved {format_bytes(report.cuda.reserved_peak_bytes)}"
    if report.saved_bytes is not None:
        text += f", saved for backward {format_bytes(report.saved_bytes)}"
    return text


def _categories_text(report: "StepReport") -> str:
    parts = report.categories_at_peak
    sizes = [(name, getattr(parts, name, 0)) for name in CATEGORIES]
    named = [f"{name.replace('_', ' ')} {format_bytes(size)}" for name, size in sizes if size]
    return ", ".join(named)


def _batches(fit: GpuFit) -> str:
    """Return the largest batch that surely fits, and up to which one may fit."""
    if not fit.is_searched:
        return "not searched"
    safe, best = fit.largest_batch or 0, fit.largest_batch_at_best or 0
    return f"{safe:,}–{best:,}" if best > safe else f"{safe:,}"


def print_gpu_table(subject: str, fits: Sequence[GpuFit], notes: Sequence[str]) -> None:
    """Print which GPUs the step fits on, and how far the batch could grow on each."""
    console = PlainConsole(highlight=False)
    fitting = [fit.gpu for fit in fits if fit.verdict == FITS]
    smallest = f"fits on {len(fitting)} of {len(fits)} GPUs" if fitting else "fits on no GPU"
    first = f"; the smallest is {fitting[0]}" if fitting else ""
    console.print(Text(f"{subject}: {smallest}{first}", style="bold"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("GPU")
    table.add_column("fits")
    for title in ("memory", "reserved peak", "headroom", "largest batch"):
        table.add_column(title, justify="right")
    for fit in fits:
        headroom = format_bytes(fit.headroom_bytes) if fit.headroom_bytes >= 0 else "none"
        sizes = (format_bytes(fit.total_bytes), fit.reserved_text, headroom)
        table.add_row(fit.gpu, fit.verdict, *sizes, _batches(fit))
    console.print(table)
    low, high = (size / 2**20 for size in fits[0].outside_bytes)
    console.print(f"note: {low:,.0f}–{high:,.0f} MiB are assumed for the CUDA context")
    for note in notes:
        console.print(Text(f"note: {note}"), soft_wrap=True)
