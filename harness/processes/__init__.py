"""Runs each measurement in a separate process."""
