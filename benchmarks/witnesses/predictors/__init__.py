"""Predictors of memory, each a file with one function."""
