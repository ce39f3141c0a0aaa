"""Text of commands on a terminal: plain tables that also read well through a pipe."""

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from harness.schema.metrics_text import metrics_rows
from harness.schema.record import Outcome, Record
from harness.schema.step_report import StepReport
from harness.schema.terminal_console import PlainConsole
from harness.schema.units import format_bytes

if TYPE_CHECKING:
    from harness.measurement.doctor import Finding
    from harness.schema.experiment import Experiment
    from harness.schema.threshold import Threshold


def _table(*columns: str) -> Table:
    table = Table(box=None, show_header=bool(columns), pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column)
    return table


def print_record(record: Record) -> None:
    """Print a measurement: the outcome, then its metrics, exact and readable."""
    console = PlainConsole(highlight=False)
    console.print(Text(f"{record.workload}: {record.outcome}", style="bold"), soft_wrap=True)
    if record.outcome is not Outcome.OK:
        for key, value in record.evidence.items():
            console.print(Text(f"  {key}: {value}"), soft_wrap=True)
        return
    print_metrics(console, record)
    if record.wall_seconds is not None:
        console.print(f"a step takes {record.wall_seconds:.4g} s; peak in {record.peak_phase}")


def print_metrics(console: PlainConsole, value: Record | StepReport) -> None:
    """Print the table of known byte metrics; nothing if none is known."""
    if rows := metrics_rows(value):
        print_sizes(console, "metric", rows)


def print_sizes(console: PlainConsole, title: str, rows: Iterable[tuple[str, int]]) -> None:
    """Print a table of sizes, each in bytes and in a unit for people."""
    table = _table(title, "bytes", "")
    table.columns[0].overflow, table.columns[1].justify = "fold", "right"
    for name, size in rows:
        words = name.replace("autograd::engine::evaluate_function: ", "").replace("/", " / ")
        table.add_row(Text(words or "(none)"), f"{size:,}", format_bytes(size))
    console.print(table)


def print_prediction(prediction: StepReport) -> None:
    """Print a prediction: the answers first, then the metrics, then the notes."""
    console = PlainConsole(highlight=False)
    for answer in prediction.answers:
        console.print(Text(answer, style="bold"), soft_wrap=True)
    head = f"{prediction.workload}: {prediction.outcome}, torch {prediction.torch}"
    console.print(Text(head), soft_wrap=True)
    print_metrics(console, prediction)
    for note in prediction.notes:
        console.print(Text(f"note: {note}"), soft_wrap=True)


_HEADROOM = {
    "live_bytes": "live bytes at the peak",
    "rounding_bytes": "block headers and alignment",
    "small_bytes": "blocks smaller than a page, from memory that was there before",
    "library_bytes": "libraries: code, buffers and growth of the heap",
    "unused_bytes": "unused",
}


def print_threshold(threshold: "Threshold") -> None:
    """Print a threshold: the answer, the prediction, where the budget goes, every probe."""
    console = PlainConsole(highlight=False)
    console.print(Text(threshold.answer, style="bold"), soft_wrap=True)
    console.print(Text(threshold.question), soft_wrap=True)
    for text, value in (
        ("predicted", threshold.predicted),
        ("predicted from live bytes alone", threshold.live_bytes_predict),
    ):
        shown = "no prediction" if value is None else f"{threshold.solve} {value:,}"
        console.print(f"{text}: {shown}")
    for key, fact in threshold.evidence.items():
        console.print(Text(f"{key}: {fact}"), soft_wrap=True)
    table = _table(f"probed {threshold.solve}", "outcome", "phase", "needed", "seconds")
    for probe in threshold.probes:
        needed = "" if probe.needed_bytes is None else format_bytes(probe.needed_bytes)
        table.add_row(
            f"{probe.value:,}", probe.outcome, probe.phase or "", needed, f"{probe.seconds:.2f}"
        )
    console.print(table)
    if threshold.headroom is not None:
        parts = [(label, getattr(threshold.headroom, name)) for name, label in _HEADROOM.items()]
        print_sizes(console, f"the budget at {threshold.solve} {threshold.largest_fit:,}", parts)


def print_findings(findings: "Sequence[Finding]", *, as_json: bool) -> None:
    """Print what ``harness doctor`` found."""
    if as_json:
        print(json.dumps([finding.as_dict() for finding in findings], indent=2))
        return
    table = _table("what", "", "how, or why not")
    for finding in findings:
        mark = Text("yes", style="green") if finding.available else Text("no", style="yellow")
        table.add_row(finding.what, mark, Text(finding.detail))
    PlainConsole(highlight=False).print(table)


def print_experiments(experiments: "Sequence[Experiment]") -> None:
    """Print the name and the question of each experiment."""
    table = _table("experiment", "question")
    for one in experiments:
        table.add_row(one.name, Text(one.question))
    PlainConsole(highlight=False).print(table)
