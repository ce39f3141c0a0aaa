"""The cells of a notebook as text, and what would free the memory that is alive after them."""

from collections.abc import Iterator

from harness.dry_runs.dry_run_report import DryRunReport
from harness.schema.units import format_bytes

MOST_CELLS = 40
_MOST_TEXT = 60


def cells_lines(report: DryRunReport) -> Iterator[str]:
    """Yield most bytes requested in each cell, and those that are alive after it."""
    if not report.cells:
        return
    yield "Cells: most bytes requested in each, alive after it"
    for cell in report.cells[-MOST_CELLS:]:
        peak = "-" if cell.requested_peak_bytes is None else format_bytes(cell.requested_peak_bytes)
        failed = "" if cell.ended == "ok" else "error: "
        yield (
            f"  {cell.number:>4}{peak:>12}{format_bytes(cell.alive_bytes):>12}"
            f"  {failed}{cell.text[:_MOST_TEXT]}"
        )
    if report.freed:
        alive = format_bytes(report.cells[-1].alive_bytes)
        yield f"What frees the {alive} after the last one, one after another:"
    for freed in report.freed:
        yield f"      {format_bytes(freed.requested_bytes):>12}  {freed.what}"
    yield ""
