"""Predictors of memory: one file each, with one function."""
