"""Runs a script several times, each time with other substitutes for unknown GPU values.

Each run writes into its own file layer. The first run's layer is kept for a second start of the
script. The other runs start as soon as a decision of the first run may depend on an unknown value.
If the script starts processes that use the GPU, the other runs run one after another.
"""

import dataclasses
import os
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from harness.dry_runs.child_process import run
from harness.dry_runs.dry_run_report import DryRunReport
from harness.dry_runs.dry_run_request import PROCESSES, USED, Request
from harness.dry_runs.run_folders import layer_folders, run_folder
from harness.dry_runs.trial_values import OTHERS
from harness.dry_runs.unknown_values import ANSWERS, NOT_TRIED, Try, judged, settled, tries_others
from harness.schema.run_outcome import Outcome

_STARTS = "the script may decide by values that nobody knows: it runs twice more, with other values"
_LOOK_SECONDS = 0.05
_PLANS_BYTES = 1 << 20
_PATIENCE_SECONDS, _PATIENCE = 60.0, 4
"""Time limit of the other runs: some seconds plus a multiple of the first run's duration."""


class OtherRuns:
    """Runs a script as often as one dry run needs."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._pools: list[ThreadPoolExecutor] = []
        self._started: list[Future[Try]] = []
        self._lock = threading.Lock()
        self._stop, self._is_over = threading.Event(), False
        self._tries = request.try_values and not request.write_files
        self._first_folder, self._files = ExitStack(), ExitStack()
        self.layers: tuple[Path, ...] = ()
        """Layer folders of the first run; ``end`` removes these folders."""

    def __enter__(self) -> Self:
        if self._tries:
            self._share_plans()
        return self

    def _share_plans(self) -> None:
        """Let the runs share cuDNN's results for execution plans."""
        file = os.memfd_create("plans")  # it leaves nothing behind
        self._files.callback(os.close, file)
        os.truncate(file, _PLANS_BYTES)
        plans = Path(f"/proc/{os.getpid()}/fd/{file}")
        self._request = dataclasses.replace(self._request, plans=plans)

    def __exit__(self, *_: object) -> None:
        self.end()

    def stop(self) -> None:
        """Stop the remaining runs, without waiting until their processes have ended."""
        self._is_over = True
        self._stop.set()

    def end(self) -> None:
        """End all runs, and remove the files of the first run."""
        self.stop()
        for pool in self._pools:
            pool.shutdown(cancel_futures=True)
        self._first_folder.close()
        self._files.close()

    def answer(self) -> DryRunReport:
        """Return the first run's report, or a report of all runs if unknown values are used."""
        first = settled(self.first_run, 0)
        if not (self._request.try_values and tries_others(first.report)):
            return first.report
        if self._request.write_files:
            return first.report.with_note(NOT_TRIED)
        return judged(
            first,
            self.results(first.report),
            lambda trials, checks: [settled(self.run, one, checks) for one in trials],
        )

    def first_run(self, trial: int, decided: Mapping[str, bool]) -> DryRunReport:
        """Do the first run, and start the other runs if an unknown value is used."""
        request = dataclasses.replace(self._request, trial=trial, decided=decided)
        self._first_folder.close()
        folder = self._first_folder.enter_context(run_folder())
        self.layers = layer_folders(folder)
        ended = threading.Event()

        def watch() -> None:
            while not (folder / USED).exists():
                if ended.wait(_LOOK_SECONDS):
                    return
            if not _has_others(folder):
                self._start(at_once=len(OTHERS))

        watching = threading.Thread(target=watch, daemon=True)
        if self._tries and not self._started:
            watching.start()
        try:
            report = run(request, folder, self._stop)
            if (folder / USED).exists() and self._tries and tries_others(report):
                self._start(at_once=1 if _has_others(folder) else len(OTHERS))
            return report
        finally:
            ended.set()

    def run(self, trial: int, decided: Mapping[str, bool]) -> DryRunReport:
        """Run the script with other values; hide its output and record only peaks."""
        return self._run(trial, decided, explains=False)

    def explained(self, trial: int, decided: Mapping[str, bool]) -> DryRunReport:
        """Run the script with other values; hide its output but record the live blocks."""
        return self._run(trial, decided, explains=True)

    def _run(self, trial: int, decided: Mapping[str, bool], *, explains: bool) -> DryRunReport:
        request = dataclasses.replace(
            self._request, trial=trial, decided=decided, explains=explains, snapshot=None,
            keep_files=None, quiet=True,
        )  # fmt: skip
        with run_folder() as folder:
            return run(request, folder, self._stop)

    def _start(self, at_once: int) -> None:
        with self._lock:
            if self._started or self._stop.is_set():
                return
            if not self._request.quiet:
                print(f"harness dry-run: {_STARTS}", file=sys.stderr, flush=True)
            pool = ThreadPoolExecutor(at_once, thread_name_prefix="harness-other-run")
            self._pools.append(pool)
            self._started += [pool.submit(settled, self.run, trial) for trial in OTHERS]

    def results(self, first: DryRunReport) -> list[Try]:
        """Return the other runs' reports; end a run that takes much longer than the first run."""
        seconds = first.wall_seconds or 0.0
        _, late = wait(self._started, timeout=_PATIENCE_SECONDS + _PATIENCE * seconds)
        if late:
            self._stop.set()
        results = [one.result() for one in self._started]
        self._stop.clear()
        if self._is_over:
            self._stop.set()
        if first.outcome == Outcome.ERROR:  # the answer is another run's, if they all have one
            if all(one.report.outcome in ANSWERS for one in results):
                results[0] = settled(self.explained, OTHERS[0])
            return results
        return [self._alone(trial, one) for trial, one in zip(OTHERS, results, strict=True)]

    def _alone(self, trial: int, one: Try) -> Try:
        """Repeat a failed run alone, because parallel runs may need the same port."""
        return settled(self.run, trial) if one.report.outcome == Outcome.ERROR else one


def _has_others(folder: Path) -> bool:
    """Return whether the script started processes that use the GPU and may need a certain port."""
    return any((folder / PROCESSES).glob("*.begun"))
