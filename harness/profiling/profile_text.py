"""What ``harness profile`` prints and writes."""

from pathlib import Path

from rich.table import Table
from rich.text import Text

from harness.profiling import exports
from harness.profiling.layer_text import layer_table
from harness.profiling.profile import TOP, Profile, top_blocks
from harness.profiling.timeline_page import page
from harness.profiling.timeline_svg import svg_timeline
from harness.schema.events import CATEGORIES, Trace
from harness.schema.plain_text import printable
from harness.schema.record import Outcome
from harness.schema.terminal_console import PlainConsole
from harness.schema.units import format_bytes


def print_profile(profile: Profile, trace: Trace | None) -> None:
    """Print the answer, the metrics as ``harness measure`` does, and what the peak consists of."""
    console = PlainConsole(highlight=False)
    asked = profile.request
    head = f"{asked.target}, batch {asked.batch}, {asked.mode}, {asked.optimizer}"
    if profile.outcome is not Outcome.OK or trace is None:
        console.print(Text(f"{head}: {profile.outcome}", style="bold"), soft_wrap=True)
        for key, value in profile.evidence.items():
            console.print(Text(f"  {key}: {value}"), soft_wrap=True)
        return
    console.print(Text(_answer(profile, trace), style="bold"), soft_wrap=True)
    console.print(Text(f"{head}: {profile.outcome}"), soft_wrap=True)
    _print_sizes(console, "metric", _metrics(profile))
    console.print(layer_table(profile.layers, trace.peak_live_bytes))
    _print_sizes(console, "module, at the peak", list(profile.modules_at_peak.items())[:TOP])
    _print_sizes(console, "operator, at the peak", list(profile.operators_at_peak.items())[:TOP])
    blocks = [
        (f"{b.event.category}, {b.event.module or '(network)'}, {b.event.operator}", b)
        for b in top_blocks(trace)
    ]
    rows = [(name, block.event.size_bytes) for name, block in blocks]
    _print_sizes(console, "block, at the peak", rows)
    for note in profile.notes:
        console.print(Text(f"note: {note}"), soft_wrap=True)


def _print_sizes(console: PlainConsole, title: str, rows: list[tuple[str, int]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(title, overflow="fold")
    table.add_column("bytes", justify="right")
    table.add_column("")
    for name, size in rows:
        table.add_row(Text(name or "(none)"), f"{size:,}", format_bytes(size))
    console.print(table)


def _answer(profile: Profile, trace: Trace) -> str:
    answer = f"peak {format_bytes(trace.peak_live_bytes)} in the {profile.peak_phase} phase"
    share = profile.temporary_share
    return answer if share is None else f"{answer}, {share:.1%} of it temporary"


def _metrics(profile: Profile) -> list[tuple[str, int]]:
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
    trace: Trace,
    *,
    events: Path | None = None,
    chrome: Path | None = None,
    snapshot: Path | None = None,
    timeline: Path | None = None,
    title: str = "Memory of a step",
) -> None:
    """Write the trace in the formats whose paths are given; ``title`` is the timeline's."""
    if events is not None:
        events.write_text(trace.as_csv())
    if chrome is not None:
        chrome.write_text(exports.chrome_trace(trace))
    if snapshot is not None:
        snapshot.write_bytes(exports.memory_snapshot(trace))
    if timeline is not None:
        draw = svg_timeline if timeline.suffix == ".svg" else page
        timeline.write_text(printable(draw(trace, title)), encoding="utf-8")
