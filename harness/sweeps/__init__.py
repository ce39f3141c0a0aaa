"""Measures the workloads of a grid, stores the records, and resumes after an interruption."""
