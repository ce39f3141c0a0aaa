"""Compares two runs with different unknown values, and returns a range of peaks or a refusal.

In the first run, numbers are small, unknown conditions are true, and masks keep all elements. In
the second run, numbers are large, conditions are false, and masks keep no element. If the peaks
differ, a third run has larger numbers: if they move the peak again, no number bounds it. If several
lines ask for the truth of a condition, two further runs mix the truths.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import asdict, replace

from harness.dry_runs.allocation_stream import parting
from harness.dry_runs.dry_run_report import DryRunFit, DryRunReport, Parting, UnknownValues
from harness.dry_runs.dry_run_request import ALLOCATIONS
from harness.dry_runs.ran_test import NOT_KNOWN, RanTest
from harness.dry_runs.trial_values import MIXED, Trial
from harness.dry_runs.value_places import answers_to_type, listed, made_up_places
from harness.schema.metrics import CudaPeaks
from harness.schema.run_outcome import Outcome
from harness.schema.units import format_bytes

NOT_TRIED = (
    "the script may decide by values that nobody knows; other ones were not tried, because its"
    " files are written for real and nothing runs twice in one folder"
)
NOT_ALL = (
    "not all combinations of unknown values were tried (--compute all computes the values, if that"
    " takes not too long)"
)
ANSWERS = (Outcome.OK, Outcome.OOM)
_OF_THE_HIGHEST = (
    "gpu_total_bytes", "cuda", "host", "devices", "processes", "shared", "out_of_memory",
    "optimizer_steps", "kernels", "compiled",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Try:
    """A run, the values that it made up, and its folder."""

    report: DryRunReport
    trial: Trial
    folder: Path


Run = Callable[[Trial], tuple[DryRunReport, Path]]
"""Function that runs the script with a trial's values; returns the report and the run's folder."""


def settled(run: Run, trial: Trial) -> Try:
    """Run the script; if it ends with an error, run it again with a few other values."""
    while True:
        report, folder = run(trial)
        is_error = report.outcome == Outcome.ERROR and not report.tests
        tries = is_error and made_up_places(report.value_reads)
        again = trial.after_error(report.last_truth) if tries else None
        if again is None:
            return Try(report=report, trial=trial, folder=folder)
        trial = again


def tries_others(first: DryRunReport) -> bool:
    """Return whether other values may change the result of a run."""
    if first.tests and first.outcome == Outcome.ERROR:  # each test has its own answer
        return any(one.uses_values and one.outcome == "passed" for one in first.tests)
    is_ended = first.outcome in (*ANSWERS, Outcome.ERROR)
    return is_ended and bool(made_up_places(first.value_reads))


def judged(first: Try, second: Try, more: Callable[[Trial], Try]) -> tuple[DryRunReport, Try]:
    """Return a report with the range of peaks, or a refusal, and the run with the highest peak.

    ``more`` starts a further run.
    """
    main, other = first.report, second.report
    if main.tests and other.tests:
        main = replace(main, tests=_agreed(main.tests, other))
        if other.outcome == Outcome.ERROR:
            return main, first
    ended = [one for one in (first, second) if one.report.outcome in ANSWERS]
    if not ended:
        why = f"{main.evidence}; values read at {_named(main)} are not known"
        return replace(main, evidence=why), first
    if len(ended) == 1:
        failed = main if main.outcome not in ANSWERS else other
        why = f"{failed.evidence or failed.outcome}".partition(". ")[0]
        return _refused(
            ended[0].report,
            f"sizes may depend on values read at {_named(main)}; it cannot be tried, because a run"
            f" with other values ends with {why}",
        ), first
    runs = [dataclasses.replace(first, report=main), second]
    if _peaks(main) == _peaks(other):
        return _with_range(runs)
    if other.outcome == Outcome.OK and any(read.numbers for read in other.value_reads):
        third = more(dataclasses.replace(second.trial, numbers="larger"))
        if third.report.outcome in ANSWERS and _peaks(third.report) != _peaks(other):
            return _unbounded(main, [one.report for one in (*runs, third)]), first
    if len(_lines(runs)) > 1 and _differ_much(main, other):
        runs += [one for one in map(more, MIXED) if one.report.outcome in ANSWERS]
    return _with_range(runs)


def _agreed(tests: Sequence[RanTest], other: DryRunReport) -> tuple[RanTest, ...]:
    """Return the first run's tests; a passed test that fails with other values is not known."""
    names = {one.name for one in other.tests if one.outcome == "passed"}
    why = "it does not pass with other values, which nobody knows"
    return tuple(
        one
        if one.outcome != "passed" or one.name in names
        else replace(one, outcome=NOT_KNOWN, why=why)
        for one in tests
    )


def _unbounded(main: DryRunReport, reports: Sequence[DryRunReport]) -> DryRunReport:
    """Return the refusal of a script whose peak grows with a number that nobody knows."""
    peaks = sorted({one.cuda.requested_peak_bytes or 0 for one in reports})
    ooms = any(one.outcome == Outcome.OOM for one in reports)
    return _refused(
        main,
        f"size depends on values at {_named(main)}, and no number bounds it:"
        f" {' and '.join(f'{each:,}' for each in peaks)} B are requested with some of them"
        f"{', and memory runs out' if ooms else ''}",
    )


def _with_range(runs: Sequence[Try]) -> tuple[DryRunReport, Try]:
    """Return the report of the run with the highest peak, with the range of all runs."""
    main, reports = runs[0].report, [one.report for one in runs]
    highest = max(runs, key=lambda one: _weight(one.report))
    ends = [asdict(one.cuda) for one in reports]
    lowest, most = (
        CudaPeaks(**{name: pick(end[name] or 0 for end in ends) for name in ends[0]})
        for pick in (min, max)
    )
    moves = any(_peaks(one) != _peaks(main) for one in reports)
    apart = next(
        (one for other in runs[1:] if moves and (one := _parting(runs[0], other)) is not None), None
    )
    places = made_up_places([read for one in reports for read in one.value_reads])
    checks = (line for one in runs for line in sorted(one.trial.flipped))
    unknown = UnknownValues(
        runs=len(reports),
        places=tuple(dict.fromkeys(places)),
        lines=(apart.line,) if apart is not None else tuple(dict.fromkeys(places)),
        parting=apart,
        checks=tuple(dict.fromkeys(checks)),
        lowest=lowest,
        highest=most,
        moves=moves,
    )
    taken = {name: getattr(highest.report, name) for name in _OF_THE_HIGHEST}
    report = replace(main, unknown=unknown, fit=_fit([one.fit for one in reports]), **taken)
    several = max(len(unknown.places), len(_lines(runs))) > 1
    if several or any(read.integers for read in main.value_reads):
        report = report.with_note(NOT_ALL)
    if report.fit != "depends":
        return report, highest
    ooms = any(one.outcome == Outcome.OOM for one in reports)
    sizes = [format_bytes(one.reserved_peak_bytes or 0) for one in (lowest, most)]
    return replace(
        report,
        evidence=f"it depends on values that nobody knows, at {listed(unknown.lines)}: in"
        f" {len(reports)} runs, {' to '.join(sizes)} are reserved"
        f"{', and memory runs out' if ooms else ''}",
    ), highest


def _lines(runs: Sequence[Try]) -> set[str]:
    """Return the lines that asked for the truth of an unknown condition, or for an unknown size."""
    return {line for one in runs for read in one.report.value_reads for line in read.lines}


def _parting(one: Try, other: Try) -> Parting | None:
    """Return the first difference between the allocations of two runs, if both are recorded."""
    for device in one.report.devices:
        files = [each.folder / f"{ALLOCATIONS}-{device.index}" for each in (one, other)]
        if all(file.exists() for file in files) and (found := parting(*files)) is not None:
            return found
    return None


def _fit(fits: Sequence[DryRunFit | None]) -> DryRunFit | None:
    """Return the verdict for all runs; ``depends`` if only some of the runs do not fit the GPU."""
    if len(set(fits)) == 1:
        return fits[0]
    return "depends" if "does not fit" in fits else "close call"


def _refused(report: DryRunReport, why: str) -> DryRunReport:
    return replace(report, outcome=Outcome.UNSUPPORTED, evidence=why, fit=None)


def _peaks(report: DryRunReport) -> list[object]:
    devices = [tuple(asdict(one.peaks).values()) for one in report.devices]
    processes = sorted(f"{one.name} {one.cuda}" for one in report.processes)
    held = [(one.index, one.held_bytes) for one in report.shared]
    return [report.outcome, *devices, *processes, *held]


def _weight(report: DryRunReport) -> tuple[bool, int, int]:
    return report.outcome == Outcome.OOM, report.cuda.reserved_peak_bytes or 0, _bytes(report)


def _differ_much(*reports: DryRunReport) -> bool:
    """Return whether the peaks differ by more than 0.1%; smaller differences do not matter."""
    peaks = [_bytes(one) for one in reports]
    return max(peaks) - min(peaks) > max(peaks) // 1000


def _bytes(report: DryRunReport) -> int:
    return sum(one.peaks.requested_peak_bytes or 0 for one in report.devices)


def _named(report: DryRunReport) -> str:
    """Return a text that lists the places, and the option that sets their values."""
    reads = [read for read in report.value_reads if read.is_made_up]
    lines = [read for read in reads if read.place.rpartition(":")[2].isdecimal()]
    hint = f" ({answers_to_type(lines, 'NUMBER')} gives the value)" if lines else ""
    return listed([read.place for read in reads]) + hint
