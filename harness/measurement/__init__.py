"""Metrics from real runs."""
