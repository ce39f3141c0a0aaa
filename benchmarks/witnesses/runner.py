"""Runs a predictor on rows in one warm process, writes a record per row, and resumes."""

import gc
import importlib
import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TypedDict

from benchmarks.witnesses.rows import RefusedError, Row
from benchmarks.witnesses.sizes import CrashedRunError


class Record(TypedDict):
    """Answer of a predictor for a row, a line of JSON."""

    row: str
    measured_bytes: int
    predicted_bytes: int | None
    outcome: str
    """``ok``; ``refused``; ``crashed`` for a crash of the published run; ``failed`` for an error of
    the predictor."""
    reason: str
    seconds: float
    torch: str


def drawn(rows: Sequence[Row], seed: int) -> list[Row]:
    """Return the rows in a random order, so that the first rows are always a random sample.

    >>> drawn([], 0)
    []
    """
    order = list(rows)
    random.Random(seed).shuffle(order)
    return order


def predictor_named(name: str) -> Callable[[Row], int]:
    """Return the function of a file in ``predictors/``."""
    predict: Callable[[Row], int] = _module(name).predict
    return predict


def needs_gpu(name: str) -> bool:
    """Return whether a predictor runs on CUDA, so that a GPU has to be pretended."""
    return bool(getattr(_module(name), "NEEDS_GPU", False))


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.witnesses.predictors.{name.replace('-', '_')}")


def records_in(path: Path) -> dict[str, Record]:
    """Return the record of each row in a file without an incomplete last line."""
    records: dict[str, Record] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            record: Record = json.loads(line)
        except json.JSONDecodeError:
            continue
        records[record["row"]] = record
    return records


def run(
    rows: Sequence[Row], predict: Callable[[Row], int], path: Path, *, until: float = float("inf")
) -> dict[str, Record]:
    """Predict each row without a record, and return all records.

    Args:
        rows: rows in the order in which they are run.
        predict: a predictor's function.
        path: file of the records.
        until: time after which no row begins.
    """
    records = records_in(path)
    left = [row for row in rows if row.name not in records]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        if path.stat().st_size and not path.read_bytes().endswith(b"\n"):
            file.write("\n")
        for row in _shown(left, path.stem):
            if time.time() > until:
                break
            records[row.name] = record = record_of(row, predict)
            file.write(json.dumps(record) + "\n")
            file.flush()
            if row is left[0]:
                gc.freeze()  # later collections pass over all that the first row imported
    return records


def record_of(row: Row, predict: Callable[[Row], int]) -> Record:
    """Return the record of one row, also if the predictor raises an error."""
    start = time.perf_counter()
    predicted, outcome, reason = None, "ok", ""
    try:
        predicted = predict(row)
    except RefusedError as error:
        outcome, reason = "refused", str(error)
    except CrashedRunError as error:
        outcome, reason = "crashed", str(error)
    except Exception as error:
        outcome, reason = "failed", f"{type(error).__name__}: {error}"[:300]
    return Record(
        row=row.name,
        measured_bytes=row.measured_bytes,
        predicted_bytes=predicted,
        outcome=outcome,
        reason=reason,
        seconds=round(time.perf_counter() - start, 4),
        torch=row.torch or version("torch"),
    )


def _shown(rows: Sequence[Row], label: str) -> Iterator[Row]:
    """Yield the rows, and show the time left."""
    begin = shown = time.monotonic()
    for done, row in enumerate(rows):
        now = time.monotonic()
        if done and now - shown > 5:
            left = (now - begin) / done * (len(rows) - done)
            print(f"{label}: {done:,} of {len(rows):,} rows, {left:,.0f} s left", file=sys.stderr)
            shown = now
        yield row
