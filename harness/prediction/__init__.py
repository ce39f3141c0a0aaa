"""Metrics without running the step."""
