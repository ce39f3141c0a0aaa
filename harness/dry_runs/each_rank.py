"""Runs several ranks of a job in parallel, each as a separate dry run, and joins the reports.

The harness watches the host's memory while several ranks run. If little memory is left, the harness
ends the rank that started last. Later, the harness runs the ended rank again, with fewer ranks in
parallel.
"""

import dataclasses
import itertools
import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Final, Self

from msgspec.structs import replace

from harness.dry_runs.dry_run_report import DryRunFit, DryRunReport
from harness.dry_runs.dry_run_request import Request
from harness.dry_runs.other_runs import OtherRuns
from harness.dry_runs.value_answers import DryRunError
from harness.processes.limits import machine_memory
from harness.schema.run_outcome import Outcome
from harness.schema.units import format_bytes

_MOST_AT_ONCE = 8
_LOOK_SECONDS = 0.05
_RESERVE = 10
"""If less than a tenth of the host's memory is free, the harness ends the rank that started last.
If less than a twentieth of the host's memory is free, the harness ends all ranks except the rank
that started first."""
_WORST_FIRST: Final[tuple[DryRunFit | None, ...]] = (
    "does not fit", None, "depends", "unknown", "close call", "fits",
)  # fmt: skip


class RankRuns:
    """Dry runs of several ranks; only the first rank shows the script's output.

    Args:
        request: request for a dry run; each run replaces the request's rank by one of ``ranks``.
        ranks: the ranks to run, such as 0 and 3.
        keeps: whether to keep the ranks' files until the ``with`` block ends.
    """

    def __init__(self, request: Request, ranks: Sequence[int], *, keeps: bool = False) -> None:
        if request.world_size is None or not ranks:
            raise DryRunError("ranks need a world size, and at least one rank")
        if request.snapshot is not None or request.keep_files is not None:
            raise DryRunError(
                "a snapshot, a page or kept files are those of one rank: give --rank R"
            )
        if request.write_files:
            raise DryRunError(
                "ranks that run side by side cannot write one folder's files for real"
            )
        self._requests = [
            dataclasses.replace(request, rank=rank, quiet=request.quiet or number > 0)
            for number, rank in enumerate(dict.fromkeys(ranks))
        ]
        self._runs = list(map(OtherRuns, self._requests))
        self._again = set[int]()
        self._keeps = keeps
        self.layers: tuple[Path, ...] = ()
        """Layer folders of the ranks that wrote files, if the files are kept."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        for one in self._runs:
            one.end()

    def answer(self) -> DryRunReport:
        """Run each rank as a separate dry run; return the joined report."""
        at_once = min(len(self._runs), len(os.sched_getaffinity(0)), _MOST_AT_ONCE)
        with ThreadPoolExecutor(at_once, thread_name_prefix="harness-rank") as pool:
            try:
                reports = self._reports(pool, at_once)
            except BaseException:  # also an interrupt
                pool.shutdown(wait=False, cancel_futures=True)
                self._end()
                raise
        written = [one.files is not None and one.files.written for one in reports]
        runs = itertools.compress(self._runs, written)
        self.layers = tuple(folder for one in runs for folder in one.layers)
        report = _joined(reports)
        if not self._again:
            return report
        number, least = len(self._again), format_bytes(_reserve_bytes())
        which = f"{number} ranks were" if number > 1 else "1 rank was"
        return report.with_note(
            f"{which} ended and run again, because less than {least} of the host's memory was left"
            " while ranks ran side by side"
        )

    def _reports(self, pool: ThreadPoolExecutor, at_once: int) -> list[DryRunReport]:
        """Return the report of each rank; run fewer ranks in parallel if host memory is short."""
        waiting, reports = deque(range(len(self._runs))), dict[int, DryRunReport]()
        running, ended = dict[Future[DryRunReport], int](), set[int]()
        while waiting or running:
            while waiting and len(running) < at_once:
                number = waiting.popleft()
                running[pool.submit(self._answer, self._runs[number])] = number
            for future in wait(running, _LOOK_SECONDS, FIRST_COMPLETED).done:
                number = running.pop(future)
                if number not in ended:
                    reports[number] = future.result()
                    continue
                ended.remove(number)
                self._runs[number].end()
                self._runs[number] = OtherRuns(self._requests[number])
                waiting.append(number)
            if len(running) > 1 and not ended and (ended := _without_room([*running.values()])):
                at_once = len(running) - len(ended)
                self._again |= ended
                for number in ended:
                    self._runs[number].stop()
        return [reports[number] for number in range(len(self._runs))]

    def _answer(self, runs: OtherRuns) -> DryRunReport:
        report = runs.answer()
        if not self._keeps:
            runs.end()
        return report


def _without_room(running: Sequence[int]) -> set[int]:
    """Return the runs that must end because host memory is short, but never the oldest run."""
    left, reserve, younger = machine_memory.available().bytes, _reserve_bytes(), running[1:]
    return set(() if left >= reserve else younger[-1:] if left >= reserve // 2 else younger)


def _reserve_bytes() -> int:
    return machine_memory.limit_bytes() // _RESERVE


def _joined(reports: Sequence[DryRunReport]) -> DryRunReport:
    """Return the report of the worst rank; ``ranks`` contains the reports of all ranks."""
    first = max(reports, key=_weight)
    fits = [one.fit for one in reports]
    return replace(
        first,
        evidence=None if first.evidence is None else f"rank {first.rank}: {first.evidence}",
        fit=None if first.fit is None else min(fits, key=_WORST_FIRST.index),
        ranks=tuple(sorted(reports, key=lambda one: one.rank or 0)),
        notes=tuple(dict.fromkeys(note for one in (first, *reports) for note in one.notes)),
        wall_seconds=sum(one.wall_seconds or 0.0 for one in reports),
    )


def _weight(report: DryRunReport) -> tuple[bool, bool, int, int]:
    most = report.highest
    sizes = most.reserved_peak_bytes or 0, most.allocated_peak_bytes or 0
    return report.outcome != Outcome.OK, report.outcome != Outcome.OOM, *sizes
