"""Records and predictions as text: one line for a prompt, a small table for a notebook."""

import html
from typing import TYPE_CHECKING

from msgspec.structs import asdict

from harness.schema.layer_names import folded
from harness.schema.notebook_table import notebook_table
from harness.schema.plain_text import printable
from harness.schema.units import format_bytes

if TYPE_CHECKING:
    from harness.schema.record import Record
    from harness.schema.step_report import StepReport


def metrics_line(value: "Record | StepReport") -> str:
    """Return the workload, the outcome and the two main metrics in one line."""
    parts = [f"{getattr(value, 'subject', value.workload)}: {value.outcome}"]
    if value.saved_bytes is not None:
        parts.append(f"saved for backward {format_bytes(value.saved_bytes)}")
    if value.peak_live_bytes is not None:
        where = f" in {value.peak_phase}" if value.peak_phase else ""
        parts.append(f"peak {format_bytes(value.peak_live_bytes)}{where}")
    return ", ".join(parts)


def metrics_rows(value: "Record | StepReport") -> list[tuple[str, int]]:
    """Return every known byte metric with a name for people, in the order of a step."""
    categories = {} if value.categories_at_peak is None else asdict(value.categories_at_peak)
    process = {} if value.process is None else asdict(value.process)
    cuda = {} if value.cuda is None else asdict(value.cuda)
    rows: list[tuple[str, int | None]] = [
        ("saved for backward", value.saved_bytes),
        ("  inputs", value.saved_input_bytes),
        ("  activations", value.saved_activation_bytes),
        ("peak of live bytes", value.peak_live_bytes),
        *((f"  {name.replace('_', ' ')}", size) for name, size in categories.items()),
        ("peak of live bytes, first step", value.first_step_peak_live_bytes),
        *((f"peak in {phase}", one.peak_live_bytes) for phase, one in (value.phases or {}).items()),
        ("RSS rise", value.rss_rise_bytes),
        ("RSS peak", value.rss_peak_bytes),
        *((f"  {name.removesuffix('_bytes')}", size) for name, size in process.items()),
    ]
    for name, size in cuda.items():
        if name.endswith("_bytes"):
            rows.append((f"CUDA {name.removesuffix('_bytes').replace('_', ' ')}", size))
    if cuda.get("first_step") is not None:
        rows.append(("CUDA reserved peak, first step", cuda["first_step"].reserved_peak_bytes))
    return [(name, size) for name, size in rows if size is not None]


LARGEST = 10
"""Layers that a notebook shows."""


def report_html(report: "StepReport") -> str:
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
    return printable(f"<p>{answers}</p><p>{html.escape(metrics_line(report))}</p>{table}{rest}")
