"""The report of a dry run as a self-contained page."""

from collections.abc import Iterator
from html import escape

from harness.dry_runs.dry_run_report import DryRunReport, Moment
from harness.dry_runs.dry_run_text import CATEGORY_WORDS, dry_run_text
from harness.plots.category_colours import CATEGORY_COLOURS, GREEN, LEVELS, SKY, VERMILION, VIOLET
from harness.plots.self_contained_page import html_table, self_contained_page, stacked_bar
from harness.schema.units import format_bytes

_OTHERS = {"buffer": SKY, "forward": GREEN, "workspace": VIOLET, "other": VERMILION}
_COLOURS = CATEGORY_COLOURS | _OTHERS


def dry_run_page(report: DryRunReport, *, target: str) -> str:
    """Return the page; every text of the script is escaped."""
    title = f"Dry run of {target}"
    return self_contained_page(title, "\n".join(_parts(report, target)))


def _parts(report: DryRunReport, target: str) -> Iterator[str]:
    verdict = report.outcome if report.fit is None else f"{report.outcome}, {report.fit}"
    gpu = f"{report.gpu} ({format_bytes(report.gpu_total_bytes)})"
    yield f"<p><strong>{escape(verdict)}</strong><br>on a pretended {escape(gpu)}</p>"
    if report.evidence:
        yield f"<p>{escape(report.evidence)}</p>"
    reserved = report.cuda.reserved_peak_bytes
    if reserved is not None:
        allocated = report.cuda.allocated_peak_bytes or 0
        outside = report.outside_bytes[1]
        whole = max(report.gpu_total_bytes, reserved + outside)
        parts = [
            ("allocated", allocated, LEVELS[0]),
            ("reserved beyond it", reserved - allocated, LEVELS[1]),
            ("outside the allocator, at most", outside, LEVELS[2]),
            ("free", whole - reserved - outside, "var(--rule)"),
        ]
        yield "<h2>Memory of the GPU</h2>"
        yield stacked_bar("Memory of the GPU at the reserved peak", parts, whole)
    for refused in report.out_of_memory[:1]:
        if refused.at is not None:
            yield f"<h2>Alive when {format_bytes(refused.requested_bytes)} were refused</h2>"
            yield _moment(refused.at)
    for device in report.devices:
        if device.peak is not None and not report.out_of_memory:
            of = f" on GPU {device.index}" if len(report.devices) > 1 else ""
            yield f"<h2>Alive at the peak{of}: {format_bytes(device.peak.requested_bytes)}</h2>"
            yield _moment(device.peak)
    text = dry_run_text(report, target=target).strip()
    yield f"<details><summary>Everything as text</summary><pre>{escape(text)}</pre></details>"


def _moment(moment: Moment) -> str:
    parts = [
        (CATEGORY_WORDS[name], size, _COLOURS[name]) for name, size in moment.categories.items()
    ]
    rows = [
        (
            format_bytes(group.requested_bytes),
            f"{group.blocks:,}",
            group.category.replace("_", " "),
            group.place,
        )
        for group in moment.groups
    ]
    bar = stacked_bar("Bytes alive, by category", parts, moment.requested_bytes)
    heads = (">size", ">blocks", "category", "allocated by")
    return bar + html_table("Largest places", heads, rows)
