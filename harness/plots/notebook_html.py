"""Public objects as HTML, as a notebook shows them."""

import html

from harness.plots.self_contained_page import html_table
from harness.plots.shown_tables import sizes_table
from harness.plots.step_tables import layers_table
from harness.schema.events import Trace
from harness.schema.metrics_text import metrics_rows
from harness.schema.plain_text import printable
from harness.schema.record import Record
from harness.schema.step_report import StepReport
from harness.schema.threshold import FoundThreshold


def report_html(report: StepReport) -> str:
    """Return the answers, the layers, the metrics and the notes as HTML."""
    answers = "<br>".join(f"<b>{html.escape(answer)}</b>" for answer in report.answers)
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in report.notes)
    more = "<details><summary>{}</summary>{}</details>".format
    rest = more("metrics", sizes_table("", metrics_rows(report)).html)
    rest += more("notes", f"<ul>{notes}</ul>") if notes else ""
    layers = layers_table(report).html
    return printable(f"<p>{answers}</p><p>{html.escape(report.line)}</p>{layers}{rest}")


def record_html(record: Record) -> str:
    """Return the known metrics of a record."""
    return sizes_table(f"{record.workload}: {record.outcome}", metrics_rows(record)).html


def threshold_html(threshold: FoundThreshold) -> str:
    """Return the answer and the probes."""
    rows = [(probe.value, str(probe.outcome), probe.phase or "") for probe in threshold.probes]
    return html_table(threshold.answer, (f">{threshold.solve}", "outcome", "ended in"), rows)


def trace_html(trace: Trace) -> str:
    """Return the peaks of a trace."""
    rows = [("peak of live bytes", trace.peak_live_bytes)]
    rows += [(f"  {n.replace('_', ' ')}", s) for n, s in trace.categories_at_peak().items() if s]
    rows += [(f"peak in {phase}", peak) for phase, peak in trace.phase_peaks().items()]
    return sizes_table(f"{len(trace.events):,} events", rows).html
