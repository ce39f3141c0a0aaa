"""A step's report as a page: the answers, the pictures, the layers, the largest blocks."""

from collections.abc import Iterator, Sequence
from html import escape

from harness.plots.category_colours import CATEGORY_COLOURS
from harness.plots.memory_page import ShownBlock, Timeline, memory_page
from harness.plots.shown_tables import sizes_table
from harness.plots.step_tables import blocks_table, layers_table
from harness.plots.traced_timeline import traced_timeline
from harness.schema.events import CATEGORIES
from harness.schema.metrics_text import metrics_rows
from harness.schema.step_report import StepReport


def step_page(report: StepReport, title: str, commands: Sequence[str] = ()) -> str:
    """Return a self-contained HTML page of ``report``; ``commands`` are what to type next."""
    return memory_page(
        title,
        verdict=[*report.answers, report.line],
        timeline=_timeline(report),
        fit=report.fit,
        batch=report.batch if report.workload is None else report.workload.batch,
        commands=commands,
        body="\n".join(_body(report)),
    )


def _timeline(report: StepReport) -> Timeline:
    """Return the blocks of the step; the sums of its layers if its events are not known."""
    fit, limits = report.fit, []
    if fit is not None:
        room = fit.total_bytes - fit.outside_bytes[1]
        limits = [(f"room for PyTorch on {fit.gpu}", room)] * bool(fit.total_bytes)
    if report.budget is not None:
        limits.append(("budget", report.budget.budget_bytes))
    if report.trace is not None and report.trace.events:
        peak = None if report.cuda is None else report.cuda.reserved_peak_bytes
        return traced_timeline(report.trace, reserved=[peak] if peak else [], limits=limits)
    blocks = [
        ShownBlock(0, 1, size, category, layer.name, layer.kind)
        for layer in report.layers
        for category, size in (
            ("parameter", layer.parameter_bytes),
            ("activation", layer.saved_bytes),
        )
    ]
    if not any(block.size_bytes for block in blocks) and report.categories_at_peak is not None:
        sizes = ((name, getattr(report.categories_at_peak, name)) for name in CATEGORIES)
        blocks = [ShownBlock(0, 1, size, name, name.replace("_", " "), "") for name, size in sizes]
    shown = [(block, 1) for block in blocks if block.size_bytes]
    return Timeline(blocks=shown, events=range(1), colours=CATEGORY_COLOURS)


def _body(report: StepReport) -> Iterator[str]:
    for head, table in (("Layers", layers_table), ("Largest blocks", blocks_table)):
        if shown := table(report).html:
            yield f"<h2>{head}</h2>{shown}"
    metrics = sizes_table("Sizes of the step", metrics_rows(report)).html
    yield f"<details><summary>Metrics</summary>{metrics}</details>"
    for note in (f"method: {report.method}", *report.notes):
        yield f'<p class="quiet">Note: {escape(note)}</p>'
