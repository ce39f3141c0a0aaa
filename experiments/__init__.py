"""Experiments; each defines the configurations to measure, the analysis and the figures."""
