"""Limits that this machine may not enforce; the tests that need one are skipped with the reason."""

import pytest

from harness.processes.limits import cgroup, rlimit


def needs_cgroup() -> None:
    works, why_not = cgroup.available()
    if not works:
        pytest.skip(why_not)


def needs_refusal() -> None:
    """Skip where the kernel refuses no memory beyond RLIMIT_DATA."""
    works, why_not = rlimit.data_segment_available()
    if not works:
        pytest.skip(why_not)
