"""Several ranks of a job, each in a run of its own, side by side: one report of all."""

import dataclasses
import itertools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Self

from msgspec.structs import replace

from harness.dry_runs.dry_run_report import DryRunFit, DryRunReport
from harness.dry_runs.dry_run_request import Request
from harness.dry_runs.other_runs import OtherRuns
from harness.dry_runs.value_answers import DryRunError
from harness.schema.run_outcome import Outcome

_MOST_AT_ONCE = 8
_WORST_FIRST: Final[tuple[DryRunFit | None, ...]] = (
    "does not fit", None, "depends", "unknown", "close call", "fits",
)  # fmt: skip


class RankRuns:
    """The runs of several ranks of one request; only the first one prints what the script prints.

    Args:
        request: what to run, of any rank.
        ranks: which ranks.
        keeps: whether their files are kept as long as this object is in use.
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
        self._runs = [
            OtherRuns(dataclasses.replace(request, rank=rank, quiet=request.quiet or number > 0))
            for number, rank in enumerate(dict.fromkeys(ranks))
        ]
        self._keeps = keeps
        self.layers: tuple[Path, ...] = ()
        """Folders of the layers of the ranks that wrote files, if they are kept."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        for one in self._runs:
            one.end()

    def answer(self) -> DryRunReport:
        """Run each rank by itself; return the report of all."""
        at_once = min(len(self._runs), len(os.sched_getaffinity(0)), _MOST_AT_ONCE)
        with ThreadPoolExecutor(at_once, thread_name_prefix="harness-rank") as pool:
            try:
                reports = list(pool.map(self._answer, self._runs))
            except BaseException:  # also an interrupt
                pool.shutdown(wait=False, cancel_futures=True)
                self._end()
                raise
        written = [one.files is not None and one.files.written for one in reports]
        runs = itertools.compress(self._runs, written)
        self.layers = tuple(folder for one in runs for folder in one.layers)
        return _joined(reports)

    def _answer(self, runs: OtherRuns) -> DryRunReport:
        report = runs.answer()
        if not self._keeps:
            runs.end()
        return report


def _joined(reports: Sequence[DryRunReport]) -> DryRunReport:
    """Return the report of the rank that failed or else reserved most, with a row for each."""
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
