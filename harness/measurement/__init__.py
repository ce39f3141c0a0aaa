"""Measures metrics in real runs."""
