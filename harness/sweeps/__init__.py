"""Measures a grid of workloads into a store of records, and resumes after an interruption."""
