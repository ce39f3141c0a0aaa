"""Fixtures of the commands."""

from tests.planning.conftest import dry_run_here

__all__ = ["dry_run_here"]
