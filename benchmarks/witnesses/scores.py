"""Errors of predictions against measurements.

The published ``nvidia-smi`` counts memory outside of PyTorch's allocator, which predictors do not
know. So a predictor gets its best constant for each source, with which most of the first rows are
within 2 MiB. These rows are not scored.
"""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.witnesses.rows import MIB, Row
from benchmarks.witnesses.runner import Record, records_in

CLOSE_BYTES = 2 * MIB
NOT_MADE_FOR = ("fitcheck", "vram-check", "gpumemnet")
"""Predictors that are not scored in bytes. They know only language models of a hub, scale
activations from parameters, or name ranges of 1,000 or 8,000 MiB."""
MOST_FOR_CONSTANT = 100
"""Largest number of rows that determine the constant, at most a third of all rows."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """Score of a predictor on a source.

    Attributes:
        rows: number of scored rows, without rows whose published run crashed.
        refused: number of scored rows without an answer.
        crashed: number of rows left out, because the published run did not train.
        constant_bytes: bytes that are added to every answer.
        close: number of answers within 2 MiB, or equal in the published digits.
        within_1_percent: number of answers within 1%.
        equal: number of answers equal in the published digits.
        median_bytes, worst_bytes: errors; the worst has its sign.
        seconds: median seconds of a row.
    """

    predictor: str
    rows: int
    refused: int
    crashed: int
    constant_bytes: int
    equal: int
    close: int
    within_1_percent: int
    median_bytes: int
    worst_bytes: int
    seconds: float


HEADS = (
    "predictor", "rows", "refused", "constant, MiB", "equal", "within 2 MiB", "within 1%",
    "median error, MiB", "worst error, MiB", "seconds a row",
)  # fmt: skip


def constant_of(residuals: Sequence[int]) -> int:
    """Return the constant that puts the most residuals within 2 MiB, nearest to their median.

    >>> constant_of([10 * MIB, 11 * MIB, 12 * MIB, 500 * MIB]) // MIB
    11
    """
    if not residuals:
        return 0
    middle = statistics.median(residuals)

    def suits(constant: int) -> tuple[int, float]:
        near = sum(abs(one - constant) <= CLOSE_BYTES for one in residuals)
        return near, -abs(constant - middle)

    return max(residuals, key=suits)


def score(
    rows: Sequence[Row], records: dict[str, Record], crashed: frozenset[str], predictor: str
) -> Score:
    """Return the score of a predictor.

    Args:
        rows: rows in the order of the draw; rows without a record are left out.
        records: answers of the predictor.
        crashed: names of the rows whose published run did not train.
        predictor: its name.
    """
    known = [row for row in rows if row.name in records]
    trained = [row for row in known if row.name not in crashed]
    fitted = row_count_for_constant(trained)
    residuals = [left for row in trained[:fitted] if (left := _residual(row, records)) is not None]
    constant = constant_of(residuals)
    judged = trained[fitted:]
    answered = [(row, left) for row in judged if (left := _residual(row, records)) is not None]
    errors = [(row, constant - left) for row, left in answered]
    sizes = [abs(error) for _, error in errors]
    return Score(
        predictor=predictor,
        rows=len(judged),
        refused=len(judged) - len(answered),
        crashed=len(known) - len(trained),
        constant_bytes=constant,
        equal=sum(2 * abs(error) <= row.resolution_bytes for row, error in errors),
        close=sum(2 * abs(e) <= max(2 * CLOSE_BYTES, row.resolution_bytes) for row, e in errors),
        within_1_percent=sum(100 * abs(error) <= row.measured_bytes for row, error in errors),
        median_bytes=int(statistics.median(sizes)) if sizes else 0,
        worst_bytes=max((error for _, error in errors), key=abs, default=0),
        seconds=statistics.median(records[row.name]["seconds"] for row in judged or known),
    )


def row_count_for_constant(rows: Sequence[Row]) -> int:
    """Return the number of rows that determine the constant; 0 for metrics of the allocator."""
    if not rows or rows[0].metric != "nvidia-smi":
        return 0
    return min(MOST_FOR_CONSTANT, len(rows) // 3)


def _residual(row: Row, records: Mapping[str, Record]) -> int | None:
    predicted = records[row.name]["predicted_bytes"]
    return None if predicted is None else row.measured_bytes - predicted


SAME_HEADS = ("predictor", "rows", "within 1%", "within 2 MiB", "median error over net memory")


def on_the_same_rows(
    rows: Sequence[Row], said: Mapping[str, dict[str, Record]], crashed: frozenset[str]
) -> list[list[str]]:
    """Return the cells of each predictor that has a record of every common row.

    The net memory is the measurement minus the dry run's constant, which tools do not know.
    """
    names = [name for name in said if name not in NOT_MADE_FOR]
    shared = [
        row
        for row in rows
        if row.name not in crashed and all(row.name in said[name] for name in names)
    ]
    fitted = row_count_for_constant(shared)
    outside = score(shared, dict(said["dry-run"]), crashed, "dry-run").constant_bytes
    lines = []
    for name in names:
        one = score(shared, dict(said[name]), crashed, name)
        shares = [
            abs(one.constant_bytes - left) / max(row.measured_bytes - outside, 1)
            for row in shared[fitted:]
            if (left := _residual(row, said[name])) is not None
        ]
        middle = f"{statistics.median(shares):.1%}" if shares else "none"
        counts = (f"{one.rows:,}", f"{one.within_1_percent:,}", f"{one.close:,}")
        lines.append((one.within_1_percent, [name, *counts, middle]))
    return [cells for _, cells in sorted(lines, key=lambda line: -line[0])]


def crashed_rows(folder: Path) -> frozenset[str]:
    """Return the rows on which PyTorch raised the error that ended the published run."""
    records = records_in(folder / "dry-run.jsonl").values()
    return frozenset(record["row"] for record in records if record["outcome"] == "crashed")


def scored(rows: Sequence[Row], folder: Path, predictors: Sequence[str]) -> list[list[str]]:
    """Return the cells of each predictor that has records."""
    crashed = crashed_rows(folder)
    lines = []
    for name in predictors:
        records = records_in(folder / f"{name}.jsonl")
        if any(row.name in records for row in rows):
            lines.append(cells_of(score(rows, records, crashed, name)))
    return lines


def cells_of(one: Score) -> list[str]:
    """Return the cells of a line of the table."""

    def share(count: int) -> str:
        return f"{count:,} ({count / one.rows:.0%})" if one.rows else "0"

    return [
        one.predictor,
        f"{one.rows:,}",
        f"{one.refused:,}",
        f"{one.constant_bytes / MIB:,.0f}",
        share(one.equal),
        share(one.close),
        share(one.within_1_percent),
        f"{one.median_bytes / MIB:,.1f}",
        f"{one.worst_bytes / MIB:+,.0f}",
        f"{one.seconds:.3f}",
    ]


def table(lines: Sequence[Sequence[str]]) -> str:
    """Return lines of cells as a table of Markdown."""
    head, *others = lines
    marked = [head, ["---", "---", *["---:"] * (len(head) - 2)], *others]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in marked)
