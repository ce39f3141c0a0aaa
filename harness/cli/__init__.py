"""Implements the command line: its arguments, its output and its exit codes."""
