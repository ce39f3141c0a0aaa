"""Fits, tests and verdicts on DataFrames; no torch, no plots."""
