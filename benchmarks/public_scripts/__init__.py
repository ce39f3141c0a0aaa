"""Dry runs of unmodified public training scripts, with one run and with all runs."""
