"""Records a process that the script started; this code runs inside that process."""

import atexit
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from harness.dry_runs.child_result import StartedResult, recorded, write_result
from harness.dry_runs.dry_run_request import JOB, PROCESSES, RESUMED, USED, Request
from harness.dry_runs.library_notes import library_notes
from harness.dry_runs.opened_files import note_reads
from harness.dry_runs.peak_recording import PeakRecording
from harness.dry_runs.recording import recording_for
from harness.dry_runs.runner_table import RunnerTable
from harness.dry_runs.value_reads import ValueReads
from harness.prediction.after_import import instead

_MOST_NAME = 60


def record() -> None:
    """Start recording this process; called when PyTorch initialises CUDA."""
    folder = _run_folder()
    job: Request
    job, _ = pickle.loads((folder / JOB).read_bytes())
    used = folder / PROCESSES / f"{os.getpid()}.used"

    def on_use() -> None:
        used.touch()
        (folder / USED).touch()

    note_reads(job.resumes_from, folder / RESUMED)
    reads = ValueReads(job.answers, trial=job.trial, on_use=on_use)
    recording = recording_for(job, reads)
    recording.start(sys.modules["torch"], at_once=True)
    table = RunnerTable(reads, recording, folder / PROCESSES, unknown_passes=job.unknown_passes)
    if "_pytest.runner" in sys.modules:  # a worker of pytest-xdist
        table.watch()
    StartedProcess(folder, reads, recording, table).listen()


def _run_folder() -> Path:
    """Return the run's folder, whose path is different inside a file layer."""
    above = Path(os.environ["HARNESS_DRY_RUN_STATUS"]).parent
    return above / "run" if (above / "run").is_dir() else above


class StartedProcess:
    """Writes the result of this process once, at its end."""

    def __init__(
        self,
        folder: Path,
        reads: ValueReads,
        recording: PeakRecording,
        table: RunnerTable | None = None,
    ) -> None:
        self._pid = os.getpid()
        self._place = folder / PROCESSES / str(self._pid)
        self._reads = reads
        self._recording = recording
        self._table = table
        self._written = False

    def listen(self) -> None:
        """Create a file as a sign of the recording; write the result when the process exits."""
        self._place.parent.mkdir(exist_ok=True)
        self._place.with_suffix(".begun").write_text(_name())
        atexit.register(self.write)

        @instead(os, "_exit")
        def leave(real: Callable[[int], Any], code: int) -> None:
            self.write()
            real(code)

    def write(self) -> None:
        """Write the result, but not in a fork of this process."""
        if os.getpid() != self._pid or self._written:
            return
        self._written = True
        seen = recorded(self._recording, self._reads)
        if self._table is not None:
            seen = msgspec.structs.replace(seen, tests=self._table.tests())
        notes = (*library_notes(), *seen.notes)
        result = StartedResult(name=_name(), notes=notes, inside=seen)
        write_result(result, self._place.parent.parent, f"{PROCESSES}/{self._pid}.json")


def _name() -> str:
    """Return this process's rank, its name in multiprocessing, or its command line."""
    ranks = sys.modules.get("harness.dry_runs.real_ranks")
    if ranks is not None and ranks.RANK:
        return f"rank {ranks.RANK[-1]}"
    if "RANK" in os.environ:
        return f"rank {os.environ['RANK']}"
    processes = sys.modules.get("multiprocessing.process")
    name: str = "MainProcess" if processes is None else processes.current_process().name
    if name == "MainProcess":
        name = os.environ.get("PYTEST_XDIST_WORKER") or " ".join(["python", *sys.argv]).strip()
    return name[:_MOST_NAME]
