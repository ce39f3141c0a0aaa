"""Fits, tests and verdicts on frames of records; no torch, no plots, no measuring."""

from harness.schema.errors import HarnessError


class AnalysisError(HarnessError, ValueError):
    """The records cannot answer the question; the message names the missing data.

    >>> import harness
    >>> run = harness.predict(harness.Workload()).to_frame().assign(experiment="mine")
    >>> twice = run.iloc[[0, 0]]
    >>> harness.compare(twice, twice)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    harness.analysis.AnalysisError: mine: depth 1, ...: several cells of this kind in one run; ...
    """
