"""Fits, tests and verdicts on frames of records; no torch, no plots, no measuring."""

from harness.schema.errors import HarnessError


class AnalysisError(HarnessError, ValueError):
    """The records cannot answer the question; the message says what is missing."""
