"""Finds the largest value of a script's argument, such as the batch size, that fits the GPU."""

from collections.abc import Callable
from dataclasses import dataclass

from harness.dry_runs.dry_run_report import DryRunReport
from harness.dry_runs.value_answers import DryRunError
from harness.prediction.largest_batch import largest_batch
from harness.prediction.largest_value import HIGHEST

START = 4
"""First value to try; the search then doubles the value."""

Run = Callable[[int], DryRunReport]
Progress = Callable[[int, DryRunReport], object]


@dataclass(frozen=True, kw_only=True)
class LargestValue:
    """Result of a search, confirmed by dry runs with ``value`` and with the next larger value."""

    name: str
    value: int | None
    """Largest value that fits; None if no value fits, or if all tried values fit."""
    is_found: bool
    """False if all tried values fit."""
    report: DryRunReport
    tried: dict[int, str]

    def answer(self) -> str:
        """Return the result in one line."""
        gpu = self.report.gpu
        if not self.is_found:
            return f"{self.name}: each one up to {HIGHEST:,} fits on {gpu}; no larger one is tried"
        if self.value is None:
            return f"no {self.name} fits on {gpu}"
        runs = f"{len(self.tried)} dry runs"
        return f"largest {self.name} on {gpu}: {self.value:,}; {self.value + 1:,} fails ({runs})"


def largest_of_script(
    name: str, run: Run, progress: Progress, stopped: Callable[[str], object] = str
) -> LargestValue:
    """Search for the largest value with which a script fits its GPU.

    If the search is interrupted, ``stopped`` is called with what is known by then.
    """
    script = _Script(name, run, progress)
    try:
        first = script.report(START)
        room = first.gpu_total_bytes - first.outside_bytes[1]
        largest = largest_batch(script, room, batch=START)
    except KeyboardInterrupt:
        stopped(script.known())
        raise
    return LargestValue(
        name=name,
        value=largest.batch,
        is_found=largest.is_found,
        report=script.report(largest.batch or START),
        tried={value: script.reports[value].outcome for value in sorted(script.reports)},
    )


class _Script:
    """Cache of a script's dry runs, one for each value."""

    def __init__(self, name: str, run: Run, progress: Progress) -> None:
        self._name, self._run, self._progress = name, run, progress
        self.reports: dict[int, DryRunReport] = {}

    def report(self, value: int) -> DryRunReport:
        """Return the report of the dry run with this value."""
        if value not in self.reports:
            self.reports[value] = self._run(value)
            self._progress(value, self.reports[value])
        return self.reports[value]

    def peak(self, batch: int) -> int | None:
        """Return the peak of allocated bytes; None if memory ran out or the script did not run."""
        if batch == 1 and self.report(1).outcome not in ("ok", "oom"):
            return None
        if not self.completes(batch):
            return None
        self._refuse_what_changes_nothing()
        return self.report(batch).cuda.allocated_peak_bytes

    def completes(self, batch: int, room_bytes: int = 0) -> bool:
        """Return whether the script fits its GPU with this value."""
        del room_bytes  # the report's verdict is about the GPU
        report = self.report(batch)
        if report.outcome not in ("ok", "oom") or report.fit == "unknown":
            why = f"{report.outcome}: {report.evidence or 'the memory of the host is not known'}"
            raise DryRunError(
                f"with {self._name} {batch} the script did not end well: {why}{self.known('; ')}"
            )
        return _fits(report)

    def known(self, before: str = "") -> str:
        """Return the largest value that fitted and the smallest that did not, after ``before``."""
        good = [value for value, each in self.reports.items() if _fits(each)]
        bad = [each for each in self.reports.items() if each[1].outcome in ("ok", "oom")]
        failing = [value for value, each in bad if not _fits(each)]
        words = [f"{max(good):,} fits"] if good else []
        words += [f"{min(failing):,} does not"] if failing else []
        return f"{before}so far, {self._name} {', '.join(words)}" if words else ""

    def _refuse_what_changes_nothing(self) -> None:
        first, second = (self.reports.get(value) for value in (START, 2 * START))
        if first is None or second is None or not first.devices:
            return
        totals = [[one.requested_total_bytes for one in each.devices] for each in (first, second)]
        if totals[0] == totals[1]:
            why = f"{START} and {2 * START} make the script allocate the same"
            raise DryRunError(
                f"{self._name} does not change what is allocated: {why}; check the arguments"
            )


def _fits(report: DryRunReport) -> bool:
    return report.outcome == "ok" and report.fit != "does not fit"
