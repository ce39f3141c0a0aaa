"""Public objects as HTML, as a notebook shows them."""

import html

from harness.plots.notebook_table import notebook_table, sizes_table
from harness.schema.events import Trace
from harness.schema.layer_names import folded
from harness.schema.metrics_text import metrics_rows
from harness.schema.plain_text import printable
from harness.schema.record import Record
from harness.schema.step_report import StepReport
from harness.schema.threshold import Threshold
from harness.schema.units import format_bytes

LARGEST = 10
"""Layers that a notebook shows."""


def report_html(report: StepReport) -> str:
    """Return the answers, the metrics, the largest layers and the notes as HTML."""
    answers = "<br>".join(f"<b>{html.escape(answer)}</b>" for answer in report.answers)
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in report.notes)
    layers = sorted(folded(report.layers), key=lambda layer: -layer.peak_bytes)[:LARGEST]
    rows = [
        (
            f"{layer.name or '(network)'} ({layer.kind})",
            *map(format_bytes, (layer.parameter_bytes, layer.saved_bytes, layer.peak_bytes)),
        )
        for layer in layers
    ]
    titles = ("layer", "parameters", "saved", "at the peak")
    table = notebook_table("largest layers", titles, rows) if rows else ""
    sizes = [(name, format_bytes(size)) for name, size in metrics_rows(report) if size]
    metrics = notebook_table("", ("metric", "size"), sizes)
    more = "<details><summary>{}</summary>{}</details>".format
    rest = more("metrics", metrics) + (more("notes", f"<ul>{notes}</ul>") if notes else "")
    return printable(f"<p>{answers}</p><p>{html.escape(report.line)}</p>{table}{rest}")


def record_html(record: Record) -> str:
    """Return the known metrics of a record."""
    return sizes_table(f"{record.workload}: {record.outcome}", metrics_rows(record))


def threshold_html(threshold: Threshold) -> str:
    """Return the answer and the probes."""
    rows = [(probe.value, str(probe.outcome), probe.phase or "") for probe in threshold.probes]
    return notebook_table(threshold.answer, (threshold.solve, "outcome", "ended in"), rows)


def trace_html(trace: Trace) -> str:
    """Return the peaks of a trace."""
    rows = [("peak of live bytes", trace.peak_live_bytes)]
    rows += [(f"  {n.replace('_', ' ')}", s) for n, s in trace.categories_at_peak().items() if s]
    rows += [(f"peak in {phase}", peak) for phase, peak in trace.phase_peaks().items()]
    return sizes_table(f"{len(trace.events):,} events", rows)
