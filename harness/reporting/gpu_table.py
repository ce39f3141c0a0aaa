"""The GPUs that one step fits on: as a table for a terminal, and as a page to send."""

from dataclasses import dataclass
from html import escape

from harness.plots.self_contained_page import html_table, self_contained_page
from harness.schema.memory_fit import GpuFit
from harness.schema.step_report import StepReport
from harness.schema.units import format_bytes


@dataclass(frozen=True, kw_only=True)
class GpuTable:
    """The answer in a sentence, a row for each GPU, and notes."""

    answer: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def gpu_table(report: StepReport) -> GpuTable:
    """Return which GPUs the step fits on, and how far the batch could grow on each."""
    fits = report.gpus
    fitting = [fit.gpu for fit in fits if fit.verdict == "fits"]
    where = f"{len(fitting)} of {len(fits)} GPUs; the smallest is {fitting[0]}" if fitting else ""
    low, high = (size / 2**20 for size in fits[0].outside_bytes)
    assumed = f"{low:,.0f}–{high:,.0f} MiB are assumed for the CUDA context"
    return GpuTable(
        answer=f"{report.subject}: fits on {where or 'no GPU'}",
        heads=("GPU", "fits", ">memory", ">reserved peak", ">headroom", ">largest batch"),
        rows=tuple(map(_row, fits)),
        notes=(assumed, *report.notes),
    )


def gpu_table_page(table: GpuTable) -> str:
    """Return the table as a self-contained page."""
    notes = "".join(f'<p class="quiet">Note: {escape(note)}.</p>' for note in table.notes)
    return self_contained_page(table.answer, html_table("", table.heads, table.rows) + notes)


def _row(fit: GpuFit) -> tuple[str, ...]:
    return (
        fit.gpu,
        fit.verdict,
        format_bytes(fit.total_bytes),
        fit.reserved_text,
        format_bytes(fit.headroom_bytes) if fit.headroom_bytes >= 0 else "none",
        _batches(fit),
    )


def _batches(fit: GpuFit) -> str:
    """Return the largest batch that surely fits."""
    return f"{fit.largest_batch or 0:,}" if fit.is_searched else "not searched"
