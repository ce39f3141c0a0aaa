"""Records and predictions as text: one line for a prompt, a small table for a notebook."""

import html
from typing import TYPE_CHECKING

from harness.schema.notebook_table import notebook_table, sizes_table
from harness.schema.plain_text import printable
from harness.schema.units import format_bytes

if TYPE_CHECKING:
    from harness.schema.record import Record
    from harness.schema.step_report import StepReport


def metrics_line(value: "Record | StepReport") -> str:
    """Return the workload, the outcome and the two main metrics in one line."""
    parts = [f"{_subject(value)}: {value.outcome}"]
    if value.saved_bytes is not None:
        parts.append(f"saved for backward {format_bytes(value.saved_bytes)}")
    if value.peak_live_bytes is not None:
        where = f" in {value.peak_phase}" if value.peak_phase else ""
        parts.append(f"peak {format_bytes(value.peak_live_bytes)}{where}")
    return ", ".join(parts)


def metrics_rows(value: "Record | StepReport") -> list[tuple[str, int]]:
    """Return every known byte metric with a name for people, in the order of a step."""
    rows: list[tuple[str, int | None]] = [
        ("saved for backward", value.saved_bytes),
        ("  inputs", value.saved_input_bytes),
        ("  activations", value.saved_activation_bytes),
        ("peak of live bytes", value.peak_live_bytes),
    ]
    if value.categories_at_peak is not None:
        categories = value.categories_at_peak
        rows += [
            (f"  {name.replace('_', ' ')}", getattr(categories, name))
            for name in categories.__struct_fields__
        ]
    rows.append(("peak of live bytes, first step", value.first_step_peak_live_bytes))
    rows += [
        (f"peak in {phase}", metrics.peak_live_bytes)
        for phase, metrics in (value.phases or {}).items()
    ]
    rows.append(("RSS rise", value.rss_rise_bytes))
    if value.cuda is not None:
        rows += [
            (f"CUDA {name.removesuffix('_bytes').replace('_', ' ')}", getattr(value.cuda, name))
            for name in value.cuda.__struct_fields__
            if name.endswith("_bytes")
        ]
        if value.cuda.first_step is not None:
            first = value.cuda.first_step.reserved_peak_bytes
            rows.append(("CUDA reserved peak, first step", first))
    return [(name, size) for name, size in rows if size is not None]


def metrics_html(value: "Record | StepReport") -> str:
    """Return the metrics as an HTML table."""
    return sizes_table(f"{_subject(value)}: {value.outcome}", metrics_rows(value))


def _subject(value: "Record | StepReport") -> str:
    return str(getattr(value, "subject", value.workload))


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
