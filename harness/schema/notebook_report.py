"""A step's report as a notebook shows it: the verdict, the peak, then what can be unfolded."""

import html
from typing import TYPE_CHECKING

from harness.schema.metrics_text import metrics_line, metrics_rows
from harness.schema.notebook_table import notebook_table
from harness.schema.plain_text import printable
from harness.schema.units import format_bytes

if TYPE_CHECKING:
    from harness.schema.step_report import StepReport

LARGEST = 10
"""Layers that are shown without unfolding."""


def report_html(report: "StepReport") -> str:
    """Return the answers, the main metrics, the largest layers, and the rest folded."""
    lines = [*(f"<b>{html.escape(answer)}</b>" for answer in report.answers)]
    lines.append(html.escape(metrics_line(report)))
    parts = [f"<p>{'<br>'.join(lines)}</p>"]
    rows = [(name, format_bytes(size)) for name, size in metrics_rows(report) if size]
    parts.append(_folded("metrics", notebook_table("", ("metric", "size"), rows)))
    if report.layers:
        ranked = sorted(report.layers, key=lambda layer: -layer.peak_bytes)
        layers = [
            (
                f"{layer.name or '(network)'} ({layer.kind})",
                format_bytes(layer.parameter_bytes),
                format_bytes(layer.saved_bytes),
                format_bytes(layer.peak_bytes),
            )
            for layer in ranked
            if layer.peak_bytes or layer.saved_bytes
        ]
        titles = ("layer", "parameters", "saved", "at the peak")
        parts.append(notebook_table("largest layers", titles, layers[:LARGEST]))
        if len(layers) > LARGEST:
            more = notebook_table("", titles, layers[LARGEST:])
            parts.append(_folded(f"{len(layers) - LARGEST} more layers", more))
    if report.notes:
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in report.notes)
        parts.append(_folded("notes", f"<ul>{notes}</ul>"))
    return printable("".join(parts))


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{html.escape(title)}</summary>{content}</details>"
