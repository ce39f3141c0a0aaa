"""A step on a terminal: the answer first, then where the bytes are."""

from collections.abc import Mapping

from harness.plots.shown_tables import sizes_table
from harness.plots.step_tables import blocks_table, layers_table, operators_table
from harness.reporting.terminal import AnswerConsole
from harness.schema.events import CATEGORIES
from harness.schema.host import Host
from harness.schema.metrics_text import metrics_rows
from harness.schema.record import Outcome, Record
from harness.schema.step_report import StepReport
from harness.schema.step_request import StepRequest
from harness.schema.units import format_bytes


def print_record(record: Record) -> None:
    """Print a measurement: the outcome, then its metrics, exact and readable."""
    console = AnswerConsole()
    if record.outcome is not Outcome.OK:
        _print_failure(console, f"{record.workload}: {record.outcome}", record.evidence)
        return
    console.say(f"{record.workload}: {record.outcome}", "bold")
    console.show(sizes_table("", metrics_rows(record)))
    if record.wall_seconds is not None:
        console.say(f"a step takes {record.wall_seconds:.4g} s; peak in {record.peak_phase}")
    if (growth := record.growth).ends_bytes:
        console.say_all(growth.lines(" over the repeats"), before="")
    _say_host(console, record.host, str(record.environment.get("device")))


def _say_host(console: AnswerConsole, host: Host | None, source: str) -> None:
    if host is not None:
        console.say_all(host.lines(pretended=source.startswith("dry run")), before="")


def _print_failure(console: AnswerConsole, head: str, evidence: Mapping[str, object]) -> None:
    console.say(head, "bold")
    console.say_all((f"{key}: {value}" for key, value in evidence.items()), before="  ")


def print_prediction(report: StepReport) -> None:
    """Print the answers; the metrics of a workload, or the peak and the layers; the notes."""
    console = AnswerConsole()
    for answer in report.answers:
        console.say(answer, "bold")
    if report.workload is not None:
        console.say(f"{report.workload}: {report.outcome}, torch {report.torch}")
        console.show(sizes_table("", metrics_rows(report)))
    elif report.peak_live_bytes is not None:
        console.say(f"{report.subject}: {_peak_text(report)}; {report.method}")
        console.say(f"at the peak: {_categories_text(report)}")
    console.show(layers_table(report))
    console.say_all(report.notes)


def _categories_text(report: StepReport) -> str:
    parts = report.categories_at_peak
    sizes = {name.replace("_", " "): getattr(parts, name, 0) for name in CATEGORIES}
    return ", ".join(f"{name} {format_bytes(size)}" for name, size in sizes.items() if size)


def _peak_text(report: StepReport) -> str:
    text = f"peak {format_bytes(report.peak_live_bytes or 0)} in the {report.peak_phase} phase"
    if report.cuda is not None and report.cuda.reserved_peak_bytes is not None:
        text += f", reserved {format_bytes(report.cuda.reserved_peak_bytes)}"
    if report.saved_bytes is not None:
        text += f", saved for backward {format_bytes(report.saved_bytes)}"
    return text


def print_profile(profile: StepReport, request: StepRequest) -> None:
    """Print the answer, the metrics as ``harness measure`` does, and what the peak consists of."""
    console = AnswerConsole()
    trace = profile.trace
    head = f"{profile.subject}, {request.mode}, {request.optimizer}: {profile.outcome}"
    if profile.outcome is not Outcome.OK or trace is None:
        _print_failure(console, head, profile.evidence)
        return
    share = temporary_share(profile)
    answer = f"peak {format_bytes(trace.peak_live_bytes)} in the {profile.peak_phase} phase"
    console.say(answer if share is None else f"{answer}, {share:.1%} of it temporary", "bold")
    console.say(head)
    console.show(sizes_table("", metrics_rows(profile)))
    _say_host(console, profile.host, profile.method)
    for table in (layers_table, operators_table, blocks_table):
        console.show(table(profile))
    console.say_all(profile.notes)


def temporary_share(report: StepReport) -> float | None:
    """Return the share of the peak's bytes that are temporary, i.e. in no other category."""
    if report.categories_at_peak is None or not report.peak_live_bytes:
        return None
    return report.categories_at_peak.temporary / report.peak_live_bytes
