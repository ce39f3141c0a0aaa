"""Compares runs with different unknown values, and returns a range of peaks or a refusal.

Every decision has the result True in one run and False in another run. In one run, numbers are
small and masks keep all elements; in another run, numbers are large and masks keep none. Two
further runs combine the decisions of one run with the numbers of the other run. These two runs are
done if the peaks differ and numbers are used, or if ``max`` compares an unknown number with a known
number. If a number changes a peak, the result is refused, because the number has no upper bound. If
the peaks differ by more than 0.1% and several lines make decisions, more runs mix these decisions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import asdict, replace

from harness.dry_runs.dry_run_report import DryRunFit, DryRunReport, UnknownValues
from harness.dry_runs.ran_test import RanTest
from harness.dry_runs.trial_values import CROSSED, FURTHER, GROUPS, MIXED, OTHERS, SMALLER
from harness.dry_runs.value_places import (
    MOST_CHECKS,
    ValueRead,
    answers_to_type,
    deciding_lines,
    listed,
)
from harness.schema.metrics import CudaPeaks
from harness.schema.run_outcome import Outcome
from harness.schema.units import format_bytes

Run = Callable[[int, Mapping[str, bool]], DryRunReport]
"""Function that runs the script with a trial's values and with fixed decisions for some lines."""
NOT_TRIED = (
    "the script may decide by values that nobody knows; other ones were not tried, because its"
    " files are written for real and nothing runs twice in one folder"
)
ANSWERS = (Outcome.OK, Outcome.OOM)


@dataclass(frozen=True)
class Try:
    """A run, and the checks of unknown values that were assumed to pass in this run."""

    report: DryRunReport
    checks: Mapping[str, bool]
    trial: int = 0


More = Callable[[Sequence[int], Mapping[str, bool]], Sequence[Try]]
"""Function that runs more trials; the given checks are assumed to pass."""


def settled(run: Run, trial: int, known: Mapping[str, bool] | None = None) -> Try:
    """Run the script; if a check of an unknown value fails, run again as if it passed."""
    checks: dict[str, bool] = dict(known or {})
    while True:
        report = run(trial, checks)
        failed = report.failed_by
        if report.outcome != Outcome.ERROR:
            return Try(report, checks, trial)
        if failed is not None and failed.line not in checks and len(checks) < MOST_CHECKS:
            checks = {**checks, failed.line: not failed.answer}
        elif trial in SMALLER and (_numbers(report) or trial == max(OTHERS)):
            trial = SMALLER[trial]
        else:
            return Try(report, checks, trial)


def tries_others(first: DryRunReport) -> bool:
    """Return whether other values may change the result of a run."""
    if first.tests and first.outcome == Outcome.ERROR:  # each test has its own answer
        return any(one.uses_values and one.outcome == "passed" for one in first.tests)
    return first.outcome in (*ANSWERS, Outcome.ERROR) and any(
        read.lines or read.decides for read in first.value_reads
    )


def judged(first: Try, others: Sequence[Try], more: More) -> DryRunReport:
    """Return a report with the range of peaks, or a refusal; ``more`` starts further runs."""
    main, reads = first.report, _deciding(first.report)
    if main.tests and all(one.report.tests for one in others):
        main = replace(main, tests=_agreed(main.tests, [one.report for one in others]))
        if any(one.report.outcome == Outcome.ERROR for one in others):
            return main
        first = Try(main, first.checks)
    answers = [one for one in (first, *others) if one.report.outcome in ANSWERS]
    if main.outcome not in ANSWERS:
        why = f"{main.evidence}; values read at {_named(reads)} are not known"
        if not answers or len(answers) < len(others):
            return replace(main, evidence=why)
        note = f"with 0 at {_places(reads)} the script ends with an error: other values were taken"
        main = answers[0].report.with_note(note)
    elif len(answers) <= len(others):
        failed = next(one.report for one in others if one.report.outcome not in ANSWERS)
        why = f"{failed.evidence or failed.outcome}".partition(". ")[0]
        return _refused(
            main,
            f"sizes may depend on values read at {_named(reads)}; it cannot be tried, because a run"
            f" with other values ends with {why}",
        )
    reports = [one.report for one in answers]
    moves = any(_peaks(one) != _peaks(main) for one in reports)
    # max(0.5, x) hides x from a decision, unless x is large in a run whose decisions are true.
    uses = [
        read
        for each in reports
        for read in each.value_reads
        if read.picked or (moves and _is_number(read))
    ]
    numbers = [*{read.place: read for read in uses}.values()]
    if not moves and not numbers:
        return _with_range(main, answers)
    one, other = (each.trial for each in others)
    checks = {line: passes for each in answers for line, passes in each.checks.items()}
    if numbers:
        again = more([CROSSED * one + other, CROSSED * other + one], checks)
        if not moves:
            again = [each for each in again if each.report.outcome in ANSWERS]
            hidden = any(_peaks(each.report) != _peaks(main) for each in again)
            further = more([CROSSED * one + FURTHER], checks) if hidden else ()
            if all(_peaks(each.report) == _peaks(again[0].report) for each in further):
                return _with_range(main, [*answers, *again])
        if [_peaks(each.report) for each in again] != [_peaks(each.report) for each in others]:
            runs = (*answers, *again)
            peaks = sorted({each.report.cuda.requested_peak_bytes or 0 for each in runs})
            ooms = any(each.report.outcome == Outcome.OOM for each in runs)
            return _refused(
                main,
                f"size depends on values at {_named(_numbers(main) or numbers)}, and no number"
                f" bounds it: {' and '.join(f'{each:,}' for each in peaks)} B are requested with"
                f" some of them{', and memory runs out' if ooms else ''}",
            )
        answers += again  # only decisions and masks move the peaks
    reads = [read for each in answers for read in each.report.value_reads]
    lines = len(set(deciding_lines(reads)) - set(checks))
    if lines > 1 and _differ_much(reports):
        answers += _mixed(others[1], min(lines, GROUPS), lambda trials: more(trials, checks))
    return _with_range(main, answers)


def _mixed(false: Try, groups: int, more: Callable[[Sequence[int]], Sequence[Try]]) -> list[Try]:
    """Run trials in which only some groups of lines decide True; return the successful runs.

    In each of the first runs, only one group decides True. In a further run, all groups that raise
    the peak decide True. In a last run, all groups that lower the peak decide True. Runs with an
    error are ignored, because mixed decisions may make a script fail.
    """
    single = [1 << group for group in range(groups)]
    alone = more([MIXED * each + false.trial for each in single])
    ended = [one if one.report.outcome in ANSWERS else false for one in alone]
    changes = [_bytes(one.report) - _bytes(false.report) for one in ended]
    raising, lowering = (
        sum(each for each, change in zip(single, changes, strict=True) if sign * change > 0)
        for sign in (1, -1)
    )
    left = {raising, lowering} - {0, *single, sum(single)}
    together = more([MIXED * each + false.trial for each in sorted(left)])
    return [one for one in (*alone, *together) if one.report.outcome in ANSWERS]


def _agreed(tests: Sequence[RanTest], others: Sequence[DryRunReport]) -> tuple[RanTest, ...]:
    """Return the first run's tests; a passed test that fails with other values is refused."""
    names = [{one.name for one in each.tests if one.outcome == "passed"} for each in others]
    why = "it does not pass with other values, which nobody knows"
    return tuple(
        one
        if one.outcome != "passed" or all(one.name in each for each in names)
        else replace(one, outcome="refused", why=why)
        for one in tests
    )


def _with_range(main: DryRunReport, answers: Sequence[Try]) -> DryRunReport:
    reports = [one.report for one in answers]
    ends = [asdict(one.cuda) for one in reports]
    lowest, highest = (
        CudaPeaks(**{name: pick(end[name] or 0 for end in ends) for name in ends[0]})
        for pick in (min, max)
    )
    unknown = UnknownValues(
        runs=len(reports),
        lines=deciding_lines([read for one in reports for read in one.value_reads]),
        checks=tuple(dict.fromkeys(line for one in answers for line in one.checks)),
        lowest=lowest,
        highest=highest,
        moves=any(_peaks(one) != _peaks(main) for one in reports),
    )
    report = replace(main, unknown=unknown, fit=_fit([one.fit for one in reports]))
    if report.fit != "depends":
        return report
    reserved = [one.reserved_peak_bytes or 0 for one in (lowest, highest)]
    ooms = any(one.outcome == Outcome.OOM for one in reports)
    size = f"{format_bytes(reserved[0])} to {format_bytes(reserved[1])}"
    return replace(
        report,
        evidence=f"it depends on values that nobody knows, at {listed(unknown.lines)}: in"
        f" {len(reports)} runs, {size} are reserved{', and memory runs out' if ooms else ''}",
    )


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


def _differ_much(reports: Sequence[DryRunReport]) -> bool:
    """Return whether the peaks differ by more than 0.1%; smaller differences do not matter."""
    peaks = [_bytes(one) for one in reports]
    return max(peaks) - min(peaks) > max(peaks) // 1000


def _bytes(report: DryRunReport) -> int:
    return sum(one.peaks.requested_peak_bytes or 0 for one in report.devices)


def _deciding(report: DryRunReport) -> list[ValueRead]:
    return [read for read in report.value_reads if read.lines or read.decides]


def _numbers(report: DryRunReport) -> list[ValueRead]:
    return [read for read in report.value_reads if _is_number(read)]


def _is_number(read: ValueRead) -> bool:
    """Return whether the script used a value as a number, e.g. as a size without an upper bound."""
    return read.decides and not read.sizes


def _named(reads: Sequence[ValueRead]) -> str:
    """Return a text that lists the places, and the option that sets their values."""
    lines = [read for read in reads if read.place.rpartition(":")[2].isdecimal()]
    hint = f" ({answers_to_type(lines, 'NUMBER')} gives the value)" if lines else ""
    return _places(reads) + hint


def _places(reads: Sequence[ValueRead]) -> str:
    return listed([read.place for read in reads])
