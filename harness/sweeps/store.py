"""Stores records as JSON Lines; no stored record is lost if the process crashes.

Each record is appended with one ``write`` and one ``fsync``. When a file is opened, each line that
is not a record is moved to ``rejected.jsonl``, and this repair is reported. A lock allows only one
writer for each file. The kernel releases the lock when the writer ends.
"""

import contextlib
import os
from collections import defaultdict
from collections.abc import Callable
from errno import EEXIST, ENOTDIR
from functools import partial
from pathlib import Path
from typing import Generic, Self, TypeVar

from filelock import FileLock, Timeout

from harness.schema.errors import HarnessError
from harness.schema.events import Trace
from harness.schema.record import (
    EVENTS,
    KeptLine,
    Outcome,
    RecordError,
    SchemaError,
    decode,
    to_json,
)

REJECTED = "rejected.jsonl"
MAX_ATTEMPTS = 2
"""Largest number of attempts at a cell whose processes were killed or crashed."""
MAX_LOSSES = 5
"""Largest number of lost attempts at a cell, in addition to ``MAX_ATTEMPTS``."""

_RETRIED = (Outcome.KILLED, Outcome.CRASHED)
"""Outcomes that the machine may have caused; a cell with one of these outcomes is tried again."""


class StoreError(HarnessError):
    """Raised if a folder cannot store results; the message states the reason and the remedy."""


Line = TypeVar("Line", bound=KeptLine)


class LineStore(Generic[Line]):
    """Context manager that appends results of one type to a file in a folder."""

    def __init__(self, folder: Path, kind: type[Line]) -> None:
        self._folder = folder
        self._decoded: Callable[[bytes], Line] = partial(decode, kind)
        self._path = folder / kind.FILE
        self._lock = FileLock(folder / f".{kind.FILE}.lock")
        self._descriptor = -1
        self._identity = (-1, -1)
        self.repairs: list[str] = []
        """One sentence for each repair that was made when the file was opened."""
        self._outcomes: defaultdict[str, list[Outcome]] = defaultdict(list)
        """Outcomes of all attempts, by cell id."""

    def __enter__(self) -> Self:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
            self._open()
        except Timeout:
            rule = "another sweep is writing there; wait for it, or choose another --out"
            raise StoreError(f"out: {str(self._folder)!r}: {rule}") from None
        except OSError as error:
            self._lock.release()
            rule = "--out names a folder; " if error.errno in (ENOTDIR, EEXIST) else ""
            raise StoreError(
                f"out: {str(self._folder)!r}: {rule}{error.strerror or error}"
            ) from None
        except BaseException:
            self._lock.release()
            raise
        return self

    def _open(self) -> None:
        for line in self._repaired():
            self._outcomes[line.cell_id].append(line.outcome)
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        opened = os.fstat(self._descriptor)
        self._identity = (opened.st_dev, opened.st_ino)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)  # a new file's name is as durable as its contents
        finally:
            os.close(folder)

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        os.close(self._descriptor)
        self._lock.release()
        if kind is None:
            self._check_in_place()

    def append(self, item: Line) -> None:
        """Append ``item`` to the file; return when ``item`` is completely on disk."""
        line = to_json(item) + b"\n"
        self._check_in_place()
        size = os.fstat(self._descriptor).st_size
        try:
            written = os.write(self._descriptor, line)
            if written != len(line):
                raise OSError(28, os.strerror(28))  # ENOSPC: a full disk takes what still fits
            os.fsync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, size)
            raise StoreError(f"out: {str(self._path)!r}: {error.strerror}") from None
        self._check_in_place()  # again: what was written to a deleted file is not kept
        self._outcomes[item.cell_id].append(item.outcome)

    def write_events(self, cell: str, trace: Trace) -> None:
        """Write the allocation events of a cell to a CSV file, atomically."""
        path = self._folder / EVENTS / f"{cell}.csv"
        temporary = path.with_suffix(".tmp")
        try:
            path.parent.mkdir(exist_ok=True)
            temporary.write_text(trace.as_csv())
            temporary.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise StoreError(f"out: {str(path)!r}: {error.strerror or error}") from None

    def _check_in_place(self) -> None:
        """Check that the open file is still the file at its path.

        A write to a deleted file raises no error and is lost.
        """
        try:
            there = self._path.stat()
        except OSError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != self._identity:
            what = "deleted or moved" if there is None else "replaced"
            rule = f"{what} while the sweep was writing to it; run the same command again"
            raise StoreError(f"out: {str(self._path)!r}: {rule}")

    def attempts(self, cell: str) -> int:
        """Return the number of stored attempts at a cell."""
        return len(self._outcomes[cell])

    def last_outcome(self, cell: str) -> Outcome:
        """Return the outcome of the last attempt at a cell."""
        return self._outcomes[cell][-1]

    def is_finished(self, cell: str) -> bool:
        """Return whether a cell needs no further attempt."""
        outcomes = self._outcomes[cell]
        losses = outcomes.count(Outcome.LOST)
        own = [outcome for outcome in outcomes if outcome is not Outcome.LOST]
        ended = any(outcome not in _RETRIED for outcome in own)
        return ended or losses >= MAX_LOSSES or len(own) >= MAX_ATTEMPTS

    def _repaired(self) -> list[Line]:
        """Move lines that are not records to ``rejected.jsonl``; return the records."""
        good, bad, records = [], [], list[Line]()
        if not self._path.exists():
            return records
        *lines, last = self._path.read_bytes().split(b"\n")
        for line in [*lines, last] if last else lines:
            try:
                records.append(self._decoded(line))
                good.append(line)
            except SchemaError:
                raise
            except RecordError:
                bad.append(line)
        if not bad and not last:
            return records
        if bad:
            with (self._folder / REJECTED).open("ab") as rejected:
                rejected.write(b"\n".join(bad) + b"\n")
                os.fsync(rejected.fileno())
            what = "a torn last line" if bad == [last] else f"{len(bad)} damaged line(s)"
            self.repairs.append(f"{self._path}: {what} set aside in {REJECTED}")
        temporary = self._path.with_suffix(".tmp")
        with temporary.open("wb") as mended:
            mended.write(b"".join(line + b"\n" for line in good))
            os.fsync(mended.fileno())
        temporary.replace(self._path)
        return records
