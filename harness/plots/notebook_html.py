"""Functions that return the HTML of public objects for a notebook."""

from harness.plots.memory_page import sheet_html
from harness.plots.sheet import Sheet, sizes_table
from harness.plots.step_sheets import prediction_sheet, record_sheet
from harness.plots.threshold_sheet import threshold_sheet
from harness.schema.events import Trace
from harness.schema.record import Record
from harness.schema.step_report import StepReport
from harness.schema.threshold import FoundThreshold


def report_html(report: StepReport) -> str:
    """Return HTML with the verdicts, the metrics and the layers of a report."""
    return sheet_html(prediction_sheet(report))


def record_html(record: Record) -> str:
    """Return HTML with the outcome and the known metrics of a record."""
    return sheet_html(record_sheet(record))


def threshold_html(threshold: FoundThreshold) -> str:
    """Return HTML with the result and the probes of a threshold."""
    return sheet_html(threshold_sheet(threshold))


def trace_html(trace: Trace) -> str:
    """Return HTML with the peaks of a trace."""
    rows = [("peak of live bytes", trace.peak_live_bytes)]
    rows += [(f"  {n.replace('_', ' ')}", s) for n, s in trace.categories_at_peak().items() if s]
    rows += [(f"peak in {phase}", peak) for phase, peak in trace.phase_peaks().items()]
    head = f"{len(trace.events):,} events"
    return sheet_html(Sheet(title=head, verdict=[head], parts=[sizes_table("", rows)]))
