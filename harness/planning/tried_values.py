"""Repeats a run with other GPU values, if the run reads GPU values that nobody knows."""

from collections.abc import Callable
from functools import partial
from typing import Generic, NamedTuple, TypeVar

from harness.dry_runs.trial_values import FIRST, SECOND, Trial
from harness.dry_runs.value_places import checks_in_words, listed
from harness.processes.forked_call import in_fork
from harness.processes.outcome import ForkFailedError
from harness.schema.errors import UnsupportedError

SAME = "values that nobody knows were read at {}: two runs with other numbers gave the same peaks"
Result = TypeVar("Result")


class Tried(NamedTuple, Generic[Result]):
    """Result of one run, and the places that read unknown GPU values."""

    result: Result
    places: tuple[str, ...]


Run = Callable[[Trial], Tried[Result] | Trial]
"""Function that runs the code once; returns the result, or the values to take after an error."""


def with_values_tried(
    run: Run[Result],
    differ: Callable[[Result, Result], str | None],
    computed: Run[Result] | None = None,
) -> tuple[Result, tuple[str, ...]]:
    """Return the first run's result and notes; raise if other GPU values change the result.

    Args:
        run: function that runs the code once, in a forked process.
        differ: function that describes the difference of two results, or returns None.
        computed: function that also computes values; it replaces ``run`` if ``run`` reads values
            that nobody knows. None if the inputs have no values.
    """
    first, trial = _settled(run, FIRST)
    if first.places and computed is not None:
        run = computed
        first, trial = _settled(run, FIRST)
    notes = [checks_in_words(sorted(trial.flipped))] if trial.flipped else []
    if not first.places:
        return first.result, tuple(notes)
    try:
        other, trial = _settled(run, SECOND)
    except ForkFailedError as error:
        raise UnsupportedError(
            f"it may depend on values that nobody knows, at {listed(first.places)}; it cannot be"
            f" tried, because with other values the step fails: {error}"
        ) from None
    if trial.flipped and not notes:
        notes = [checks_in_words(sorted(trial.flipped))]
    if difference := differ(first.result, other.result):
        raise UnsupportedError(
            f"it depends on values that nobody knows, at {listed(first.places)}: in two runs,"
            f" {difference}"
        )
    return first.result, (*notes, SAME.format(listed(first.places)))


def _settled(run: Run[Result], trial: Trial) -> tuple[Tried[Result], Trial]:
    """Run until no error ends the code; return the result and the values that were made up."""
    while True:
        tried = in_fork(partial(run, trial))
        if isinstance(tried, Tried):
            return tried, trial
        trial = tried
