"""Memory of the host that a process takes, against psutil's reading of the same pages."""

import os

import pytest
import torch

from harness.instruments.host_pages import host_at_peak
from harness.instruments.rss import resident_rise
from harness.schema.host import Host
from tests.own_pss import own_pss_bytes

MIB = 1 << 20


def host_after(size: int) -> Host:
    with resident_rise() as seen:
        torch.ones(size, dtype=torch.uint8)
    host = host_at_peak(seen.peak_bytes)
    assert host is not None
    return host


def test_the_peak_of_a_step_is_its_share_of_each_page_and_what_it_freed_again() -> None:
    host_after(64 * MIB)  # what a first use leaves
    before = own_pss_bytes()
    host = host_after(64 * MIB)
    assert abs(host.peak_bytes[0] - before - 64 * MIB) < MIB
    assert (host.pinned_bytes, host.harness_bytes) == (None, None)


def test_a_fork_has_a_part_of_what_it_shares_and_would_have_all_of_it_alone() -> None:
    held = torch.ones(128 * MIB, dtype=torch.uint8)
    alone = host_after(1).peak_bytes[0]
    reader, writer = os.pipe()
    if not (child := os.fork()):
        try:
            low, high = host_after(1).peak_bytes
            os.write(writer, f"{low} {high}".encode())
        finally:
            os._exit(0)
    low, high = map(int, os.read(reader, 99).split())
    os.waitpid(child, 0)
    assert abs(low - alone / 2) < 16 * MIB
    assert abs(high - alone) < 16 * MIB
    del held


def test_a_system_without_these_counts_has_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.instruments.host_pages.page_sums", lambda: {"Rss": 1})
    assert host_at_peak(1) is None
