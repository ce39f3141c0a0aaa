"""A step whose decisions by unknown values are tried: each answer of it is asked in a fork."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from msgspec.structs import replace

from harness.dry_runs.trial_values import OTHERS
from harness.dry_runs.value_places import MOST_CHECKS, Decision, checks_in_words, listed
from harness.measurement.process.forked_call import in_fork
from harness.measurement.process.outcome import ForkFailedError
from harness.schema.errors import UnsupportedError
from harness.schema.step_report import StepReport
from harness.schema.units import format_bytes

SAME = "values that nobody knows decide something at {}: other ones change no peak"


class TriedStep(NamedTuple):
    """One run of a step, and the lines that decide by unknown values in it."""

    report: StepReport
    lines: tuple[str, ...]


Trace = Callable[[int, Mapping[str, bool]], TriedStep | Decision]
"""Runs the step with the values of a trial; returns a check of an unknown value that failed."""


def with_values_tried(trace: Trace) -> StepReport:
    """Return the report of a step, refused if other values move its peaks."""
    first, checks = _settled(trace, 0)
    report = first.report
    if checks:
        report = replace(report, notes=(*report.notes, checks_in_words(tuple(checks))))
    if not first.lines:
        return report
    for trial in OTHERS:
        try:
            other, _ = _settled(trace, trial)
        except ForkFailedError as error:
            raise UnsupportedError(
                f"it may depend on values that nobody knows, at {listed(first.lines)}; it cannot be"
                f" tried, because with other values the step fails: {error}"
            ) from None
        if other.report.cuda != report.cuda:
            ends = [one for one in (report.cuda, other.report.cuda) if one is not None]
            reserved = [one.reserved_peak_bytes or 0 for one in ends]
            raise UnsupportedError(
                f"it depends on values that nobody knows, at {listed(first.lines)}: in two runs,"
                f" {' and '.join(map(format_bytes, sorted(reserved)))} are reserved"
            )
    return replace(report, notes=(*report.notes, SAME.format(listed(first.lines))))


def _settled(trace: Trace, trial: int) -> tuple[TriedStep, Mapping[str, bool]]:
    """Return a run in which no check of an unknown value fails, and those checks."""
    checks: dict[str, bool] = {}
    while True:
        tried = in_fork(lambda given=dict(checks): trace(trial, given))  # type: ignore[misc]
        if isinstance(tried, TriedStep):
            return tried, checks
        if tried.line in checks or len(checks) == MOST_CHECKS:
            raise UnsupportedError(f"a check of values that nobody knows fails at {tried.line}")
        checks[tried.line] = not tried.answer
