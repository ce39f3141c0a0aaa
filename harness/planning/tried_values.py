"""Repeats a run with other GPU values, if decisions depend on GPU values that nobody knows."""

from collections.abc import Callable, Mapping
from typing import Generic, NamedTuple, TypeVar

from harness.dry_runs.trial_values import OTHERS
from harness.dry_runs.value_places import MOST_CHECKS, Decision, checks_in_words, listed
from harness.processes.forked_call import in_fork
from harness.processes.outcome import ForkFailedError
from harness.schema.errors import UnsupportedError

SAME = "values that nobody knows decide something at {}: other ones change no peak"
Result = TypeVar("Result")


class Tried(NamedTuple, Generic[Result]):
    """Result of one run, and the source lines whose decisions depend on unknown GPU values."""

    result: Result
    lines: tuple[str, ...]


Run = Callable[[int, Mapping[str, bool]], Tried[Result] | Decision]
"""Function that runs the code once, and returns the result or a failed check of a value."""


def with_values_tried(
    run: Run[Result], differ: Callable[[Result, Result], str | None]
) -> tuple[Result, tuple[str, ...]]:
    """Return the first run's result and notes; raise if other GPU values change the result.

    Args:
        run: function that runs the code once, in a forked process.
        differ: function that describes the difference of two results, or returns None.
    """
    first, checks = _settled(run, 0)
    notes = [checks_in_words(tuple(checks))] if checks else []
    if not first.lines:
        return first.result, tuple(notes)
    for trial in OTHERS:
        try:
            other, _ = _settled(run, trial)
        except ForkFailedError as error:
            raise UnsupportedError(
                f"it may depend on values that nobody knows, at {listed(first.lines)}; it cannot be"
                f" tried, because with other values the step fails: {error}"
            ) from None
        if difference := differ(first.result, other.result):
            raise UnsupportedError(
                f"it depends on values that nobody knows, at {listed(first.lines)}: in two runs,"
                f" {difference}"
            )
    return first.result, (*notes, SAME.format(listed(first.lines)))


def _settled(run: Run[Result], trial: int) -> tuple[Tried[Result], Mapping[str, bool]]:
    """Repeat a run until no check of a GPU value fails; return the result and the failed checks."""
    checks: dict[str, bool] = {}
    while True:
        tried = in_fork(lambda given=dict(checks): run(trial, given))  # type: ignore[misc]
        if isinstance(tried, Tried):
            return tried, checks
        if tried.line in checks or len(checks) == MOST_CHECKS:
            raise UnsupportedError(f"a check of values that nobody knows fails at {tried.line}")
        checks[tried.line] = not tried.answer
