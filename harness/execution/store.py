"""The records of one experiment's run: JSON Lines that survive whatever ends the writer.

One append is one write and one fsync. What a crash tore is repaired on opening and reported:
a torn last line is cut off, lines that are no records are set aside in ``rejected.jsonl``.
One writer at a time holds the folder's lock, which the kernel releases when it dies.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from harness.errors import HarnessError
from harness.events import Trace
from harness.record import Outcome, Record, RecordError, SchemaError, from_json, to_json

RECORDS = "records.jsonl"
REJECTED = "rejected.jsonl"
EVENTS = "events"
MAX_ATTEMPTS = 2

_RETRIED = (Outcome.KILLED, Outcome.CRASHED)
"""Ends that may be an accident of the machine and not the workload's own."""


class StoreError(HarnessError):
    """The folder cannot be written to; the message says why and what to do."""


class Store:
    """Appends to one folder's records; use as a context manager.

    Raises:
        StoreError: the folder is in use, is a file, or cannot be written.
        SchemaError: its records were written by a newer harness.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / RECORDS
        self._lock = FileLock(folder / ".lock")
        self._descriptor = -1
        self.repairs: list[str] = []
        """What was mended on opening, one sentence each."""
        self._attempts: dict[str, int] = {}
        self._finished: set[str] = set()

    def __enter__(self) -> Self:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout:
            rule = "another sweep is writing there; wait for it, or choose another --out"
            raise StoreError(f"out: {str(self._folder)!r}: {rule}") from None
        except OSError as error:
            raise StoreError(f"out: {str(self._folder)!r}: {error.strerror or error}") from None
        try:
            self._repair()
            for record in read(self._path):
                self._note(record)
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            _sync_folder(self._folder)
        except OSError as error:
            self._lock.release()
            raise StoreError(f"out: {str(self._folder)!r}: {error.strerror or error}") from None
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)
        self._lock.release()

    def append(self, record: Record) -> None:
        """Write ``record`` so that it is on disk, whole, when this returns.

        Raises:
            StoreError: the disk took only a part of it; that part is cut off again.

        """
        line = to_json(record) + b"\n"
        size = os.fstat(self._descriptor).st_size
        try:
            written = os.write(self._descriptor, line)
            if written != len(line):
                raise OSError(28, os.strerror(28))  # ENOSPC: a full disk takes what still fits
            os.fsync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, size)
            raise StoreError(f"out: {str(self._path)!r}: {error.strerror}") from None
        self._note(record)

    def write_events(self, workload_id: str, trace: Trace) -> None:
        """Keep a traced cell's events as CSV, complete or not at all.

        Raises:
            StoreError: they cannot be written, such as to a full disk; no part of them stays.

        """
        path = self._folder / EVENTS / f"{workload_id}.csv"
        temporary = path.with_suffix(".tmp")
        try:
            path.parent.mkdir(exist_ok=True)
            temporary.write_text(trace.as_csv())
            temporary.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise StoreError(f"out: {str(path)!r}: {error.strerror or error}") from None

    def attempts(self, workload_id: str) -> int:
        """Return how many records of a cell there are."""
        return self._attempts.get(workload_id, 0)

    def is_finished(self, workload_id: str) -> bool:
        """Whether a cell needs no further attempt."""
        return workload_id in self._finished

    def _note(self, record: Record) -> None:
        count = self._attempts[record.workload_id] = self.attempts(record.workload_id) + 1
        if record.outcome not in _RETRIED or count >= MAX_ATTEMPTS:
            self._finished.add(record.workload_id)

    def _repair(self) -> None:
        """Make every line of the file a record, keeping what is set aside."""
        if not self._path.exists():
            return
        good, bad = [], []
        *lines, last = self._path.read_bytes().split(b"\n")
        for line in [*lines, last] if last else lines:
            try:
                from_json(line)
                good.append(line)
            except SchemaError:
                raise
            except RecordError:
                bad.append(line)
        if not bad and not last:
            return
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


def read(path: Path) -> Iterator[Record]:
    """Yield the records of a file, if there is one.

    Raises:
        RecordError: a line is no record; the message names file and line.

    """
    if not path.exists():
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield from_json(line)
            except RecordError as error:
                raise type(error)(f"{path}, line {number}: {error}") from None


def _sync_folder(folder: Path) -> None:
    """Make a new file's name as durable as its contents, where folders can be synced."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
