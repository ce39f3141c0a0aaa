"""Faults of files: the executor replays known records, so that hundreds of trials take seconds."""

import errno
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.processes import environment
from harness.schema.record import Record
from harness.sweeps.executors import Cell, Measured
from harness.sweeps.executors.in_process import InProcessExecutor
from harness.sweeps.store import LineStore, StoreError
from tests.faults.grid import FULL, Replay, Tally, records_path, reference, sweep

CELLS = 12


def trials(quick: int, full: int) -> range:
    return range(full if FULL else quick)


def finished(folder: Path) -> bytes:
    """Return the file of a whole sweep's records."""
    sweep(folder, CELLS, Replay())
    return records_path(folder).read_bytes()


def resume_and_check(folder: Path, tally: Tally) -> None:
    sweep(folder, CELLS, Replay())
    tally.injected += 1
    tally.check(folder, CELLS)
    assert (tally.lost, tally.wrong) == (0, 0), tally.notes


def test_records_torn_at_any_byte(tmp_path: Path, tally: Tally) -> None:
    whole = finished(tmp_path)
    chance = random.Random(1)
    for _ in trials(10, 120):
        records_path(tmp_path).write_bytes(whole[: chance.randrange(len(whole))])
        resume_and_check(tmp_path, tally)


def test_records_garbled_at_any_byte(tmp_path: Path, tally: Tally) -> None:
    """Bytes that are no text: whatever a line says instead, it is no record any more."""
    whole = finished(tmp_path)
    chance = random.Random(2)
    for _ in trials(10, 120):
        spoilt = bytearray(whole)
        start = chance.randrange(len(whole))
        count = chance.choice([1, 7, 600])
        spoilt[start : start + count] = bytes(chance.choice([0, 0xFF, 0x80]) for _ in range(count))
        records_path(tmp_path).write_bytes(spoilt[: len(whole)])
        resume_and_check(tmp_path, tally)


def test_results_deleted_moved_or_replaced_in_mid_sweep(tmp_path: Path, tally: Tally) -> None:
    """The sweep stops by itself, and the same command starts again from what is there."""
    chance = random.Random(5)
    for number in trials(4, 80):
        folder = tmp_path / str(number)
        lose = (deleted, moved, replaced, truncated_copy)[number % 4]
        with pytest.raises(StoreError):
            sweep(folder, CELLS, Losing(chance.randrange(CELLS), folder, lose))
        resume_and_check(folder, tally)


class Losing(Replay):
    """Answers as an undisturbed run did, and loses the results before one of its answers."""

    def __init__(self, at: int, folder: Path, lose: Callable[[Path], object]) -> None:

        self._left, self._folder, self._lose = at, folder, lose

    def submit(self, cell: Cell, attempt: int) -> "Future[Measured]":
        if self._left == 0:
            self._lose(self._folder)
        self._left -= 1
        return super().submit(cell, attempt)


def deleted(folder: Path) -> None:
    shutil.rmtree(folder)


def moved(folder: Path) -> None:
    folder.rename(folder.with_name(f"{folder.name}-moved"))


def replaced(folder: Path) -> None:
    copy = folder.with_name(f"{folder.name}-copy")
    shutil.copytree(folder, copy)
    shutil.rmtree(folder)
    copy.rename(folder)


def truncated_copy(folder: Path) -> None:
    """Write half a file under the same name, as some editors do."""
    path = records_path(folder)
    copy = path.with_suffix(".edited")
    copy.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    copy.replace(path)


def test_disk_full_at_any_record(tmp_path: Path, tally: Tally) -> None:
    chance = random.Random(3)
    for number in trials(4, 40):
        folder = tmp_path / str(number)
        with small_disk(folder, 4096 * chance.randrange(1, 5)) as grow:
            with pytest.raises(StoreError):
                sweep(folder, CELLS, Replay(), traced=bool(number % 2))
            grow()
            resume_and_check(folder, tally)


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[Callable[[], object]]:
    """Mount a tmpfs of our own and yield what makes it grow; skip where we may not."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small disk needs root")
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
    grown = ["mount", "-o", "remount,size=64m", str(folder)]
    try:
        yield lambda: subprocess.run(grown, check=True)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_two_writers(tmp_path: Path, tally: Tally) -> None:
    for number in trials(3, 30):
        folder = tmp_path / str(number)
        sweep(folder, number % CELLS + 1, Replay())
        with LineStore(folder / "faulty", Record), pytest.raises(StoreError, match="another sweep"):
            sweep(folder, CELLS, Replay())
        resume_and_check(folder, tally)


NETWORK = [errno.EXDEV, errno.ESTALE, errno.EACCES, errno.EIO, errno.ENOLCK]


def test_network_file_system_that_fails_to_rename_lock_or_sync(
    tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep stops in one line, the torn file stays as it was, and a sound system resumes."""
    fcntl = pytest.importorskip("fcntl")
    whole = finished(tmp_path)
    chance = random.Random(6)
    for number in trials(5, 100):
        torn = whole[: chance.randrange(1, len(whole) - 1)] + b"{"
        records_path(tmp_path).write_bytes(torn)
        names = {"rename": (os, "replace"), "lock": (fcntl, "flock"), "sync": (os, "fsync")}
        place, name = names[chance.choice(list(names))]

        def fail(*_: object, number: int = NETWORK[number % len(NETWORK)]) -> None:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr(place, name, fail)
            with pytest.raises(StoreError):
                sweep(tmp_path, CELLS, Replay())
        tally.lost += records_path(tmp_path).read_bytes() != torn
        resume_and_check(tmp_path, tally)


def test_clock_that_jumps(tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(4)

    class Jumping(datetime):
        @classmethod
        def now(cls, tz: object = None) -> "Jumping":
            tally.injected += 1
            days = chance.randrange(-20_000, 20_000)
            return cls(2026, 1, 1, tzinfo=UTC) + timedelta(days=days)

    reference()  # by a clock that does not jump
    monkeypatch.setattr(environment, "datetime", Jumping)
    cells = 40 if FULL else 4
    sweep(tmp_path, cells, InProcessExecutor())
    tally.check(tmp_path, cells)
    assert tally.injected >= cells
    assert (tally.lost, tally.wrong) == (0, 0), tally.notes
