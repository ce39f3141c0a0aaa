"""Faults of files: the executor replays known records, so that hundreds of trials take seconds."""

import errno
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.measurement import environment
from harness.schema.record import Record
from harness.sweeps.executors import Cell, Measured
from harness.sweeps.executors.in_process import InProcessExecutor
from harness.sweeps.store import LineStore, StoreError
from tests.faults.conftest import FULL
from tests.faults.grid import Replay, Tally, records_path, sweep

CELLS = 12


def trials(quick: int, full: int) -> range:
    return range(full if FULL else quick)


def finished(folder: Path, reference: Sequence[Measured]) -> Path:
    sweep(folder, CELLS, Replay(reference))
    return records_path(folder)


def resume_and_check(folder: Path, reference: Sequence[Measured], tally: Tally) -> None:
    sweep(folder, CELLS, Replay(reference))
    tally.injected += 1
    tally.check(folder, reference[:CELLS])
    assert (tally.lost, tally.wrong) == (0, 0), tally.notes


def test_records_torn_at_any_byte(
    tmp_path: Path, reference: Sequence[Measured], tally: Tally
) -> None:
    whole = finished(tmp_path, reference).read_bytes()
    chance = random.Random(1)
    for _ in trials(10, 120):
        records_path(tmp_path).write_bytes(whole[: chance.randrange(len(whole))])
        resume_and_check(tmp_path, reference, tally)


def test_records_garbled_at_any_byte(
    tmp_path: Path, reference: Sequence[Measured], tally: Tally
) -> None:
    """Bytes that are no text: whatever a line says instead, it is no record any more."""
    whole = finished(tmp_path, reference).read_bytes()
    chance = random.Random(2)
    for _ in trials(10, 120):
        spoilt = bytearray(whole)
        start = chance.randrange(len(whole))
        count = chance.choice([1, 7, 600])
        spoilt[start : start + count] = bytes(chance.choice([0, 0xFF, 0x80]) for _ in range(count))
        records_path(tmp_path).write_bytes(spoilt[: len(whole)])
        resume_and_check(tmp_path, reference, tally)


def test_results_deleted_moved_or_replaced_in_mid_sweep(
    tmp_path: Path, reference: Sequence[Measured], tally: Tally
) -> None:
    """The sweep stops by itself, and the same command starts again from what is there."""
    chance = random.Random(5)
    for number in trials(4, 80):
        folder = tmp_path / str(number)
        lose = (deleted, moved, replaced, truncated_copy)[number % 4]
        with pytest.raises(StoreError):
            sweep(folder, CELLS, Losing(reference, chance.randrange(CELLS), folder, lose))
        resume_and_check(folder, reference, tally)


class Losing(Replay):
    """Answers as an undisturbed run did, and loses the results before one of its answers."""

    def __init__(
        self, reference: Sequence[Measured], at: int, folder: Path, lose: Callable[[Path], object]
    ) -> None:
        super().__init__(reference)
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


def test_disk_full_at_any_record(
    tmp_path: Path, reference: Sequence[Measured], tally: Tally
) -> None:
    if sys.platform == "win32":
        pytest.skip("no file system of our own")
    chance = random.Random(3)
    for number in trials(4, 40):
        folder = tmp_path / str(number)
        with small_disk(folder, 4096 * chance.randrange(1, 5)) as grow:
            with pytest.raises(StoreError):
                sweep(folder, CELLS, Replay(reference), traced=bool(number % 2))
            grow()
            resume_and_check(folder, reference, tally)


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator["Disk"]:
    """Mount a tmpfs of our own; skip where we may not."""
    folder.mkdir()
    disk = Disk(folder)
    disk.mount(f"size={size_bytes}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


class Disk:
    """A small file system; called, it grows."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def mount(self, options: str) -> None:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self._folder)]
        if os.geteuid() != 0 or shutil.which("mount") is None:
            pytest.skip("mounting a small disk needs root")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")

    def __call__(self, options: str = "size=64m") -> None:
        command = ["mount", "-o", f"remount,{options}", str(self._folder)]
        subprocess.run(command, check=True)


def test_two_writers(tmp_path: Path, reference: Sequence[Measured], tally: Tally) -> None:
    for number in trials(3, 30):
        folder = tmp_path / str(number)
        sweep(folder, number % CELLS + 1, Replay(reference))
        with LineStore(folder / "faulty", Record), pytest.raises(StoreError, match="another sweep"):
            sweep(folder, CELLS, Replay(reference))
        resume_and_check(folder, reference, tally)


NETWORK = [errno.EXDEV, errno.ESTALE, errno.EACCES, errno.EIO, errno.ENOLCK]


def test_network_file_system_that_fails_to_rename_lock_or_sync(
    tmp_path: Path, reference: Sequence[Measured], tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep stops in one line, the torn file stays as it was, and a sound system resumes."""
    fcntl = pytest.importorskip("fcntl")
    whole = finished(tmp_path, reference).read_bytes()
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
                sweep(tmp_path, CELLS, Replay(reference))
        tally.lost += records_path(tmp_path).read_bytes() != torn
        resume_and_check(tmp_path, reference, tally)


def test_clock_that_jumps(
    tmp_path: Path, reference: Sequence[Measured], tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(4)

    class Jumping(datetime):
        @classmethod
        def now(cls, tz: object = None) -> "Jumping":
            tally.injected += 1
            days = chance.randrange(-20_000, 20_000)
            return cls(2026, 1, 1, tzinfo=UTC) + timedelta(days=days)

    monkeypatch.setattr(environment, "datetime", Jumping)
    cells = 40 if FULL else 4
    sweep(tmp_path, cells, InProcessExecutor())
    tally.check(tmp_path, reference[:cells])
    assert tally.injected >= cells
    assert (tally.lost, tally.wrong) == (0, 0), tally.notes
