"""Text and files of ``harness profile``."""

from pathlib import Path

from rich.text import Text

from harness.reporting import trace_exports as exports
from harness.reporting.layer_text import layer_table
from harness.reporting.step_page import step_page, timeline_svg
from harness.reporting.terminal import print_sizes
from harness.schema.events import CATEGORIES, Trace
from harness.schema.record import Outcome
from harness.schema.step_report import StepReport
from harness.schema.step_request import StepRequest
from harness.schema.terminal_console import PlainConsole
from harness.schema.units import format_bytes

TOP = 10
"""Rows of each table of the peak."""


def print_profile(profile: StepReport, request: StepRequest) -> None:
    """Print the answer, the metrics as ``harness measure`` does, and what the peak consists of."""
    console = PlainConsole(highlight=False)
    trace = profile.trace
    head = f"{profile.subject}, {request.mode}, {request.optimizer}"
    if profile.outcome is not Outcome.OK or trace is None:
        console.print(Text(f"{head}: {profile.outcome}", style="bold"), soft_wrap=True)
        for key, value in profile.evidence.items():
            console.print(Text(f"  {key}: {value}"), soft_wrap=True)
        return
    console.print(Text(_answer(profile, trace), style="bold"), soft_wrap=True)
    console.print(Text(f"{head}: {profile.outcome}"), soft_wrap=True)
    print_sizes(console, "metric", _metrics(profile))
    console.print(layer_table(profile.layers, trace.peak_live_bytes))
    for what in ("module", "operator"):
        sizes = [(name or "(network)", size) for name, size in profile.bytes_at_peak(what).items()]
        print_sizes(console, f"{what}, at the peak", sizes[:TOP])
    blocks = [
        (f"{b.event.category}, {b.event.module or '(network)'}, {b.event.operator}", b)
        for b in trace.alive_at_peak()[:TOP]
    ]
    rows = [(name, block.event.size_bytes) for name, block in blocks]
    print_sizes(console, "block, at the peak", rows)
    for note in profile.notes:
        console.print(Text(f"note: {note}"), soft_wrap=True)


def _answer(profile: StepReport, trace: Trace) -> str:
    answer = f"peak {format_bytes(trace.peak_live_bytes)} in the {profile.peak_phase} phase"
    share = temporary_share(profile)
    return answer if share is None else f"{answer}, {share:.1%} of it temporary"


def temporary_share(report: StepReport) -> float | None:
    """Return the share of the peak's bytes that no fact assigns to another category."""
    if report.categories_at_peak is None or not report.peak_live_bytes:
        return None
    return report.categories_at_peak.temporary / report.peak_live_bytes


def _metrics(profile: StepReport) -> list[tuple[str, int]]:
    rows: list[tuple[str, int | None]] = [
        ("saved for backward", profile.saved_bytes),
        ("  of them input", profile.saved_input_bytes),
        ("  of them activations", profile.saved_activation_bytes),
        ("peak live", profile.peak_live_bytes),
    ]
    categories = profile.categories_at_peak
    rows += [(f"  {n.replace('_', ' ')}", getattr(categories, n)) for n in CATEGORIES]
    rows += [(f"peak in {n}", f.peak_live_bytes) for n, f in (profile.phases or {}).items()]
    return [(name, size) for name, size in rows if size is not None]


def write_exports(
    report: StepReport,
    trace: Trace,
    *,
    events: Path | None = None,
    chrome: Path | None = None,
    snapshot: Path | None = None,
    page: Path | None = None,
    title: str = "Memory of a step",
) -> None:
    """Write the trace in the formats whose paths are given; ``title`` is the page's."""
    if events is not None:
        events.write_text(trace.as_csv())
    if chrome is not None:
        chrome.write_text(exports.chrome_trace(trace))
    if snapshot is not None:
        snapshot.write_bytes(exports.memory_snapshot(trace))
    if page is not None:
        is_figure = page.suffix == ".svg"
        text = timeline_svg(trace, title) if is_figure else step_page(report, title)
        page.write_text(text, encoding="utf-8")
