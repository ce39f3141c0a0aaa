"""Fits, tests and verdicts on frames of records; no torch, no plots, no measuring.

compare.py        Two runs, metric by metric
decisions.py      Decides claims about noisy numbers
exact.py          Finds the exact formula behind whole numbers, where there is one
fits.py           Least squares on a handful of named terms, and power laws
frame.py          Records and events on disk as data frames
judge.py          Judges a claim from the parts of what it speaks of
predictions.py    Sets measured metrics next to predicted ones
rss_agreement.py  Sets a process's RSS rise next to its live bytes
stated_claims.py  What each claim says and what decides it, from claims.toml
step_runs.py      The traced steps of one experiment
"""

from harness.schema.errors import HarnessError


class AnalysisError(HarnessError, ValueError):
    """The records cannot answer the question; the message says what is missing.

    >>> import harness
    >>> run = harness.predict(harness.Workload()).to_frame().assign(experiment="mine")
    >>> twice = run.iloc[[0, 0]]
    >>> harness.compare(twice, twice)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    harness.analysis.AnalysisError: mine: depth 1, ...: several cells of this kind in one run; ...
    """
