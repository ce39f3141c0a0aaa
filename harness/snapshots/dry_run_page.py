"""The report of a dry run as a self-contained page: the last step, block by block, and the rest."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

from harness.dry_runs.dry_run_report import DryRunReport, Moment
from harness.dry_runs.dry_run_text import dry_run_text
from harness.plots.memory_page import Timeline, memory_page
from harness.plots.self_contained_page import html_table
from harness.schema.block_categories import CATEGORY_WORDS
from harness.schema.units import format_bytes
from harness.snapshots.device_history import device_histories
from harness.snapshots.recorded_timeline import recorded_timeline
from harness.snapshots.snapshot import read_recording


def dry_run_page(
    report: DryRunReport,
    *,
    target: str,
    snapshot: Path | None = None,
    commands: Sequence[str] = (),
) -> str:
    """Return the page; ``snapshot`` is the recording of the run, ``commands`` what to type next."""
    return memory_page(
        f"Dry run of {target}",
        verdict=[report.answer, *filter(None, [report.evidence])],
        timeline=None if snapshot is None else _timeline(report, snapshot),
        commands=commands,
        body="\n".join(_body(report, target)),
    )


def _timeline(report: DryRunReport, snapshot: Path) -> Timeline:
    """Return the last step on the GPU that reserved most, with the room that PyTorch has."""
    busiest = max(report.devices, key=lambda one: one.peaks.reserved_peak_bytes or 0, default=None)
    device = None if busiest is None else busiest.index
    history = next(iter(device_histories(read_recording(snapshot), device)))
    room = report.gpu_total_bytes - report.outside_bytes[1]
    limits = [(f"room for PyTorch on {report.gpu}", room)]
    return replace(recorded_timeline(history, last_step=True), limits=limits)


def _body(report: DryRunReport, target: str) -> Iterator[str]:
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
    sizes = [(format_bytes(size), CATEGORY_WORDS[name]) for name, size in moment.categories.items()]
    places = [
        (
            format_bytes(group.requested_bytes),
            f"{group.blocks:,}",
            group.category.replace("_", " "),
            group.place,
        )
        for group in moment.groups
    ]
    heads = (">size", ">blocks", "category", "allocated by")
    categories = html_table("By category", (">size", "category"), sizes)
    return categories + html_table("Largest places", heads, places)
