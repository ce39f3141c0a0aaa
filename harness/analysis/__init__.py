"""Fits, tests and verdicts on frames of records; no torch, no plots, no measuring."""


class AnalysisError(ValueError):
    """The records cannot answer the question; the message says what is missing."""
