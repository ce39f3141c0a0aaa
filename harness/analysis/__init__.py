"""Loads and compares records, fits formulas to numbers, and judges claims."""

from harness.schema.errors import HarnessError


class AnalysisError(HarnessError, ValueError):
    """Raised if records cannot be analysed; the message states the reason.

    >>> import harness
    >>> run = harness.predict(harness.Workload()).to_frame().assign(experiment="mine")
    >>> twice = run.iloc[[0, 0]]
    >>> harness.compare(twice, twice)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    harness.analysis.AnalysisError: mine: depth 1, ...: several cells of this kind in one run; ...
    """
