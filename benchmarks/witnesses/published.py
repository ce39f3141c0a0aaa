"""The stored rows, with published name and number, and the answers of predictors.

Each source has a CSV under ``results/witnesses``, with rows in the order in which they were drawn.
The chapter is made from these files, without a clone.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.witnesses.rows import Row
from benchmarks.witnesses.runner import Record, records_in
from benchmarks.witnesses.scores import crashed_rows

FIELDS = ("row", "metric", "measured_bytes", "resolution_bytes", "crashed")


def publish(rows: Sequence[Row], records: Path, path: Path) -> None:
    """Write the CSV of a source from its folder of records.

    Args:
        rows: rows in the order of the draw; rows without a record are left out.
        records: folder with a file for each predictor.
        path: file to write.
    """
    said = {file.stem: records_in(file) for file in sorted(records.glob("*.jsonl"))}
    crashed = crashed_rows(records)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        columns = [f"{name}.{field}" for name in said for field in ("bytes", "seconds")]
        table.writerow([*FIELDS, *columns])
        for row in rows:
            if any(row.name in records for records in said.values()):
                own = (row.metric, row.measured_bytes, row.resolution_bytes)
                cells = [cell for one in said.values() for cell in _cells(one.get(row.name))]
                table.writerow([row.name, *own, int(row.name in crashed), *cells])


def _cells(record: Record | None) -> tuple[str, str]:
    """Return the answers in one row, as bytes or as outcomes."""
    if record is None:
        return "", ""
    size = record["predicted_bytes"]
    return record["outcome"] if size is None else str(size), f"{record['seconds']:.3f}"


def read(path: Path) -> tuple[list[Row], dict[str, dict[str, Record]], frozenset[str]]:
    """Return rows, the records of each predictor, and the names of rows that crashed."""
    rows, said, crashed = [], dict[str, dict[str, Record]](), set()
    with path.open(newline="") as file:
        for line in csv.DictReader(file):
            row = _row(path.stem, line)
            rows.append(row)
            if line["crashed"] == "1":
                crashed.add(row.name)
            for column, cell in line.items():
                name, dot, field = column.rpartition(".")
                if dot and field == "bytes" and cell:
                    said.setdefault(name, {})[row.name] = _record(row, line, name)
    return rows, said, frozenset(crashed)


def _row(source: str, line: dict[str, Any]) -> Row:
    return Row(
        source=source,
        name=line["row"],
        metric=line["metric"],
        measured_bytes=int(line["measured_bytes"]),
        resolution_bytes=int(line["resolution_bytes"]),
        traits={},
    )


def _record(row: Row, line: dict[str, str], predictor: str) -> Record:
    cell = line[f"{predictor}.bytes"]
    return Record(
        row=row.name,
        measured_bytes=row.measured_bytes,
        predicted_bytes=int(cell) if cell.isdigit() else None,
        outcome="ok" if cell.isdigit() else cell,
        reason="",
        seconds=float(line[f"{predictor}.seconds"]),
        torch="",
    )
