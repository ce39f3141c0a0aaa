"""What commands print on a terminal: plain tables that also read well through a pipe."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.schema.record import Outcome, Prediction, Record
from harness.schema.units import format_bytes

if TYPE_CHECKING:
    from harness.measurement.doctor import Finding
    from harness.schema.record import CudaMetrics
    from harness.schema.threshold import Threshold


def _table(*columns: str) -> Table:
    table = Table(box=None, show_header=bool(columns), pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column)
    return table


def print_record(record: Record | Prediction) -> None:
    """Print a record's or a forecast's figures, exact and readable side by side."""
    console = Console(highlight=False)
    console.print(Text(f"{record.workload}: {record.outcome}", style="bold"), soft_wrap=True)
    if isinstance(record, Record) and record.outcome is not Outcome.OK:
        for key, value in record.evidence.items():
            console.print(Text(f"  {key}: {value}"), soft_wrap=True)
        return
    table = _table("figure", "bytes", "")
    table.columns[1].justify = "right"
    for name, size in _rows(record):
        table.add_row(name, f"{size:,}", format_bytes(size))
    console.print(table)
    if isinstance(record, Prediction):
        _print_notes(console, record)
    if record.wall_seconds is not None and isinstance(record, Record):
        console.print(f"a step takes {record.wall_seconds:.4g} s; peak in {record.peak_phase}")


def _print_notes(console: Console, forecast: Prediction) -> None:
    if forecast.budget is not None:
        budget = forecast.budget
        verdict = "fits" if budget["fits"] else "does not fit"
        largest = budget["largest_batch"]
        bound = f"largest batch {largest:,}" if largest else "no batch fits"
        size = format_bytes(budget["budget_bytes"])
        console.print(Text(f"{verdict} into {size}; {bound}", style="bold"), soft_wrap=True)
    if forecast.card is not None:
        _print_card(console, forecast.card)
    if forecast.last_batch is not None:
        console.print(Text(_last_batch(forecast.last_batch)), soft_wrap=True)
    for note in forecast.notes:
        console.print(Text(f"note: {note}"), soft_wrap=True)


def _last_batch(told: dict[str, Any]) -> str:
    """Return what a smaller last step and the one after it take, in a line."""
    low, high = told["reserved_rise_bytes"]
    rise = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    peaks = ", ".join(
        f"{words} {told[step]['requested_peak_bytes']:,} requested"
        f" and {told[step]['reserved_peak_bytes']:,} reserved"
        for step, words in (("partial_step", "peaks"), ("next_step", "in the step after it"))
    )
    return f"last batch of {told['rows']:,}: {peaks}; {rise} bytes reserved beyond all before"


def _print_card(console: Console, card: dict[str, Any]) -> None:
    """Print the verdict on a card, and how far the batch could grow."""
    total = format_bytes(card["total_bytes"])
    outside = " to ".join(format_bytes(size) for size in card["outside_bytes"])
    console.print(
        Text(f"{card['verdict']} on {card['gpu']}, {total}", style="bold"),
        f"({outside} of it taken for what lies outside the allocator)",
        soft_wrap=True,
    )
    surely, at_best = card["largest_batch"], card["largest_batch_at_best"]
    bound = f"largest batch {surely:,}" if surely else "no batch surely fits"
    if at_best and at_best != surely:
        bound += f"; a close call up to {at_best:,}"
    console.print(Text(bound, style="bold"), soft_wrap=True)


def _rows(record: Record | Prediction) -> list[tuple[str, int]]:
    rows: list[tuple[str, int | None]] = [
        ("saved for backward", record.saved_bytes),
        ("  of them input", record.saved_input_bytes),
        ("  of them activations", record.saved_activation_bytes),
        ("peak live", record.peak_live_bytes),
    ]
    if record.categories_at_peak is not None:
        categories = record.categories_at_peak
        rows += [
            (f"  {name.replace('_', ' ')}", getattr(categories, name))
            for name in categories.__struct_fields__
        ]
    rows.append(("peak live, first step", record.first_step_peak_live_bytes))
    rows += [
        (f"peak in {phase}", figures.peak_live_bytes)
        for phase, figures in (record.phases or {}).items()
    ]
    rows.append(("resident rise", record.rss_rise_bytes))
    if record.cuda is not None:
        rows += _cuda_rows(record.cuda)
    return [(name, size) for name, size in rows if size is not None]


def _cuda_rows(cuda: "CudaMetrics") -> list[tuple[str, int | None]]:
    names = [name for name in cuda.__struct_fields__ if name.endswith("_bytes")]
    rows = [
        (f"CUDA {name.removesuffix('_bytes').replace('_', ' ')}", getattr(cuda, name))
        for name in names
    ]
    if cuda.first_step is not None:
        rows.append(("CUDA reserved peak, first step", cuda.first_step.reserved_peak_bytes))
    return rows


def print_threshold(found: "Threshold") -> None:
    """Print a threshold: the answer, what was predicted, every probe."""
    console = Console(highlight=False)
    console.print(Text(f"{found.workload}", style="bold"), soft_wrap=True)
    console.print(Text(found.answer, style="bold"), soft_wrap=True)
    for text, value in (
        ("predicted", found.predicted),
        ("by live bytes alone", found.live_bytes_predict),
    ):
        console.print(f"{text}: {'unknown' if value is None else f'{value:,}'}")
    table = _table(found.solve, "outcome", "phase", "needed", "seconds")
    for probe in found.probes:
        needed = "" if probe.needed_bytes is None else format_bytes(probe.needed_bytes)
        table.add_row(
            f"{probe.value:,}", probe.outcome, probe.phase or "", needed, f"{probe.seconds:.2f}"
        )
    console.print(table)
    if found.headroom is not None:
        for name in found.headroom.__struct_fields__:
            size = getattr(found.headroom, name)
            text = name.removesuffix("_bytes")
            console.print(f"{text}: {size:,} B ({format_bytes(size)})")
    for key, fact in found.evidence.items():
        console.print(Text(f"  {key}: {fact}"), soft_wrap=True)


def print_findings(findings: "Sequence[Finding]", *, as_json: bool) -> None:
    """Print what ``harness doctor`` found."""
    if as_json:
        print(json.dumps([finding.as_dict() for finding in findings], indent=2))
        return
    table = _table("what", "", "how, or why not")
    for finding in findings:
        mark = Text("yes", style="green") if finding.available else Text("no", style="yellow")
        table.add_row(finding.what, mark, Text(finding.detail))
    Console(highlight=False).print(table)


def print_verdicts(folder: Path) -> None:
    """Print the verdict table of the report in ``folder``, one block a verdict."""
    from harness.reporting.report import sections

    console = Console(highlight=False)
    for _, section in sections(folder):
        for verdict in section.verdicts:
            head = Text.assemble((f"{verdict.ruling}: ", "bold"), verdict.sentence)
            console.print(head, soft_wrap=True)
            console.print(Text(f"  {verdict.measured} ({verdict.number})"), soft_wrap=True)
