"""Tables of the layers of a step, and of the live bytes at the peak."""

from dataclasses import replace

from harness.plots.sheet import ShownTable, sizes_table
from harness.schema.layer_names import folded, summed
from harness.schema.step_report import StepReport
from harness.schema.units import format_bytes

FOLDED_FROM = 24
"""Smallest number of layers for which equal layers are combined in one row."""
MOST_LAYERS = 40
TOP = 10
"""Largest number of rows in a table of the live bytes at the peak."""


def layers_table(report: StepReport) -> ShownTable:
    """Return a table of the layers that use memory, in forward order; the last row is the sum."""
    layers = [r for r in report.layers if r.parameter_bytes or r.saved_bytes or r.peak_bytes]
    shown = folded(layers) if len(layers) >= FOLDED_FROM else layers
    peak = report.peak_live_bytes
    heads = ("layer", ">parameters", ">saved", ">output", ">of the peak")
    rows = []
    for row in [*shown[:MOST_LAYERS], replace(summed(layers, "all layers", ""), output_bytes=0)]:
        sizes = (row.parameter_bytes, row.saved_bytes, row.output_bytes)
        name = f"{row.name or '(network)'} ({row.kind})" if row.kind else row.name
        share = f"{row.peak_bytes / peak:.1%}" if peak else ""
        rows.append((name, *(format_bytes(size) if size else "" for size in sizes), share))
    if len(shown) > MOST_LAYERS:
        more = f"... {len(shown) - MOST_LAYERS} more rows; --json has all"
        rows.insert(-1, (more, "", "", "", ""))
    rows = rows if layers else []
    return ShownTable(title="Layers, in forward order", heads=heads, rows=rows, spare=">output")


def operators_table(report: StepReport) -> ShownTable:
    """Return a table of the operators whose blocks use the largest part of the peak."""
    sizes = [(_short(name), size) for name, size in report.bytes_at_peak("operator").items()]
    return sizes_table("Alive at the peak, by operator", sizes[:TOP], "operator, at the peak")


def blocks_table(report: StepReport) -> ShownTable:
    """Return a table of the largest blocks that are alive at the peak."""
    alive = [] if report.trace is None else report.trace.alive_at_peak()[:TOP]
    sizes = [
        (f"{e.category}, {e.module or '(network)'}, {_short(e.operator)}", e.size_bytes)
        for e in (block.event for block in alive)
    ]
    return sizes_table("Largest blocks at the peak", sizes, "block, at the peak")


def _short(operator: str) -> str:
    """Return a block's operator names, with spaces at which the text may be wrapped."""
    return operator.replace("autograd::engine::evaluate_function: ", "").replace("/", " / ")
