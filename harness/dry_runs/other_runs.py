"""Runs a script a second time, with other values in place of those that nobody knows.

Each run writes into its own file layer, which is kept for a second start of the script. The second
run starts soon after the first run, but it computes no values before the first run reads an unknown
value or computes no more. If the script starts processes that use the GPU, the second run starts
after the first run.
"""

import dataclasses
import os
import shutil
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from harness.dry_runs.child_process import run
from harness.dry_runs.dry_run_report import DryRunReport
from harness.dry_runs.dry_run_request import PROCESSES, USED, Request
from harness.dry_runs.run_folders import layer_folders, run_folder
from harness.dry_runs.status_page import STATUS, StatusPage
from harness.dry_runs.trial_values import FIRST, SECOND, Trial
from harness.dry_runs.unknown_values import (
    ANSWERS,
    NOT_ALL,
    NOT_TRIED,
    Try,
    judged,
    settled,
    tries_others,
)
from harness.schema.run_outcome import Outcome

_STARTS = "the script reads values that nobody knows: it runs a second time, with other values"
_COMPUTES = "values may decide what is allocated: it runs once more, and they are computed"
_COMPUTED = (
    "values may decide what is allocated, so they were computed in a further run; what the script"
    " printed, and the files that were kept, are of the first run"
)
_COMPUTED_RUN = "computed"
_DECIDED_SECONDS, _NOT_ALL_SECONDS = 30.0, 15.0
"""Largest time, in seconds of the stub's budget, that a further run computes values for: if values
decide the answer, and if they may decide it."""
_SHOWN = "shown.pickle"
"""Name of the snapshot of a run that is not the first one."""
_LOOK_SECONDS, _AHEAD_SECONDS = 0.05, 1.0
"""How often a run is looked at, and how far the first run is ahead of a second run that starts
early: a port that both need is free for the first run."""
_SHARED_BYTES, _NEEDED = 1 << 20, b"\x01"
"""Size of the file that the runs share, and its first byte as soon as the second run is needed."""
_ALONE = frozenset({Outcome.ERROR, Outcome.KILLED})
"""Outcomes of a second run that is repeated alone: both runs may need one port, or much memory."""
_PATIENCE_SECONDS, _PATIENCE = 60.0, 4
"""Time limit of the second run: some seconds plus a multiple of the first run's duration."""


class OtherRuns:
    """Runs a script as often as one dry run needs."""

    def __init__(self, request: Request, *, continues: "OtherRuns | None" = None) -> None:
        self._request = request
        self._continues = continues
        self._pool: ThreadPoolExecutor | None = None
        self._second: Future[Try] | None = None
        self._lock, self._is_said = threading.Lock(), False
        self._stop, self._second_stop = threading.Event(), threading.Event()
        self._is_over = False
        self._shared = -1
        self._tries = request.try_values and not request.write_files
        self._folders, self._files = dict[str, ExitStack](), ExitStack()
        self._layers: dict[str, tuple[Path, ...]] = {}

    @property
    def layers(self) -> tuple[Path, ...]:
        """Layer folders of the run that counts; ``end`` removes these folders."""
        return self.layers_of(FIRST)

    def layers_of(self, trial: Trial) -> tuple[Path, ...]:
        """Return the layer folders of the run with the most similar numbers."""
        large = () if trial.numbers == FIRST.numbers else (SECOND.numbers,)
        similar = _COMPUTED_RUN, trial.numbers, *large, FIRST.numbers
        return next((self._layers[one] for one in similar if one in self._layers), ())

    def __enter__(self) -> Self:
        return self

    def _share(self) -> None:
        """Let the runs share a file, if there may be several."""
        if not self._tries or self._shared >= 0:
            return
        self._shared = os.memfd_create("shared")  # it leaves nothing behind
        self._files.callback(os.close, self._shared)
        os.truncate(self._shared, _SHARED_BYTES)
        shared = Path(f"/proc/{os.getpid()}/fd/{self._shared}")
        self._request = dataclasses.replace(
            self._request, shared=shared, input_begin=_position_of_input()
        )

    def __exit__(self, *_: object) -> None:
        self.end()

    def stop(self) -> None:
        """Stop the remaining runs, without waiting until their processes have ended."""
        self._is_over = True
        self._stop.set()
        self._second_stop.set()

    def end(self) -> None:
        """End all runs, and remove their files."""
        self.stop()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        for folder in self._folders.values():
            folder.close()
        self._files.close()

    def answer(self) -> DryRunReport:
        """Return the first run's report, or a report of all runs if unknown values are read."""
        first = settled(self.first_run, FIRST)
        if not (self._request.try_values and tries_others(first.report)):
            self._withdraw()
            return first.report
        if self._request.write_files:
            return first.report.with_note(NOT_TRIED)
        if self._second is None:  # this run was stopped
            return first.report
        self._start(is_needed=True)
        second = self._result(first.report, self._second)
        report, shown = judged(first, second, lambda trial: settled(self.run, trial))
        if (whole := self._computed(first.report, _most_rest_seconds(report))) is not None:
            report, shown = whole.report.with_note(_COMPUTED), whole
        if self._request.snapshot is not None and shown.folder != first.folder:
            shutil.copy(shown.folder / _SHOWN, self._request.snapshot)
        return report

    def first_run(self, trial: Trial) -> tuple[DryRunReport, Path]:
        """Do the first run, and start the second run when an unknown value is read.

        If nothing is computed, or no more, almost every script reads one. A second run that started
        early is ended if the script starts other processes.
        """
        self._share()
        request = dataclasses.replace(self._request, trial=trial)
        folder = self._folder(_name(trial))
        ended = threading.Event()

        def watch() -> None:
            while not (folder / STATUS).exists() and not ended.wait(_LOOK_SECONDS):
                pass  # it is being prepared
            if _starts_early(request) and not ended.wait(_AHEAD_SECONDS):
                self._start(waits=request.compute != "none")
            while not (folder / USED).exists():
                if _has_others(folder):
                    self._withdraw()
                elif _computes_no_more(folder):
                    self._start()
                if ended.wait(_LOOK_SECONDS):
                    return
            if not _has_others(folder):
                self._start(is_needed=True)

        watching = threading.Thread(target=watch, daemon=True)
        if self._tries and self._second is None:
            watching.start()
        try:
            report = run(request, folder, self._stop)
        finally:
            ended.set()
            if watching.is_alive():
                watching.join()
        if (folder / USED).exists() and self._tries and tries_others(report):
            self._start(is_needed=True)
        return report, folder

    def _computed(self, first: DryRunReport, most_seconds: float) -> Try | None:
        """Run with a larger budget, and return the run if it computed all values that were read.

        This is not done if the first run left more than ``most_seconds`` to compute.
        """
        begun = first.computed
        if (
            not most_seconds
            or begun is None
            or begun.stopped_by != "time"
            or begun.rest_seconds > most_seconds
        ):
            return None
        if not self._request.quiet:
            print(f"harness dry-run: {_COMPUTES}", file=sys.stderr, flush=True)
        report, folder = self.run(FIRST, compute_seconds=2 * most_seconds)
        if report.outcome not in ANSWERS or tries_others(report):
            del self._layers[_COMPUTED_RUN]  # a second start resumes from a run that counts
            return None
        return Try(report=report, trial=FIRST, folder=folder)

    def run(
        self,
        trial: Trial,
        compute_seconds: float | None = None,
        stop: threading.Event | None = None,
    ) -> tuple[DryRunReport, Path]:
        """Run the script with other values, and hide its output.

        ``compute_seconds`` is a larger budget of computing than that of the first run.
        """
        folder = self._folder(_COMPUTED_RUN if compute_seconds else _name(trial))
        request = dataclasses.replace(
            self._request,
            trial=trial,
            is_first=False,
            compute_seconds=compute_seconds,
            keep_files=None,
            quiet=True,
        )
        if request.snapshot is not None:
            request = dataclasses.replace(request, snapshot=folder / _SHOWN)
        if self._continues is not None:
            request = dataclasses.replace(request, earlier=self._continues.layers_of(trial))
        return run(request, folder, stop or self._stop), folder

    def _folder(self, name: str) -> Path:
        """Return a new folder for a run; remove the folder of a run that is repeated."""
        self._folders.setdefault(name, ExitStack()).close()
        folder = self._folders[name].enter_context(run_folder())
        self._layers[name] = layer_folders(folder)
        return folder

    def _start(self, *, is_needed: bool = False, waits: bool = False) -> None:
        """Start the second run if it has not started; say so as soon as it is needed.

        A run that ``waits`` computes no values until this method is called again.
        """
        with self._lock:
            if self._stop.is_set():
                return
            if not waits:
                os.pwrite(self._shared, _NEEDED, 0)
            if is_needed and not self._is_said and not self._request.quiet:
                self._is_said = True
                print(f"harness dry-run: {_STARTS}", file=sys.stderr, flush=True)
            if self._second is None:
                self._pool = self._pool or ThreadPoolExecutor(1, "harness-other-run")
                self._second = self._pool.submit(settled, self._second_run, SECOND)

    def _second_run(self, trial: Trial) -> tuple[DryRunReport, Path]:
        return self.run(trial, stop=self._second_stop)

    def _withdraw(self) -> None:
        """End a second run that started early, and forget it."""
        if self._second is not None:
            self._second_stop.set()
            wait([self._second])
            self._second = None
            self._second_stop.clear()
            self._layers.pop(_name(SECOND), None)  # nothing resumes from it

    def _result(self, first: DryRunReport, started: "Future[Try]") -> Try:
        """Return the second run; end it if it takes much longer than the first run."""
        seconds = first.wall_seconds or 0.0
        _, late = wait([started], timeout=_PATIENCE_SECONDS + _PATIENCE * seconds)
        if late:
            self._second_stop.set()
        result = started.result()
        failed = not late and result.report.outcome in _ALONE and first.outcome not in _ALONE
        return settled(self.run, SECOND) if failed else result


def _name(trial: Trial) -> str:
    """Return the name of the run with these values; a run that is repeated has the same name."""
    return trial.numbers + ("" if trial.truths[0] == trial.truths[1] else f"{trial.truths}")


def _position_of_input() -> int | None:
    """Return the position of the user's standard input if it is a file, which can be read again."""
    try:
        return os.lseek(0, 0, os.SEEK_CUR)
    except OSError:  # a terminal, a pipe, or closed
        return None


def _starts_early(request: Request) -> bool:
    """Return whether the second run starts before it is known to be needed.

    It does so where two processors can run both, and where its beginning is short: it computes
    nothing, or waits before the first value that it computes.
    """
    if len(os.sched_getaffinity(0)) < 2 or request.world_size is not None:
        return False
    return request.compute == "none" or (
        request.compute == "auto" and request.deadline_seconds is None
    )


def _most_rest_seconds(report: DryRunReport) -> float:
    """Return how long a further run may compute values, by how much they decide."""
    if report.outcome == Outcome.UNSUPPORTED or (report.unknown and report.unknown.moves):
        return _DECIDED_SECONDS
    return _NOT_ALL_SECONDS if NOT_ALL in report.notes else 0.0


def _computes_no_more(folder: Path) -> bool:
    """Return whether a process of a run has used up its budget of computing."""
    try:
        return bool(StatusPage.from_buffer_copy((folder / STATUS).read_bytes()).stopped)
    except (OSError, ValueError):  # not there yet, or not any more
        return False


def _has_others(folder: Path) -> bool:
    """Return whether the script started processes that use the GPU and may need a certain port."""
    return any((folder / PROCESSES).glob("*.begun"))
