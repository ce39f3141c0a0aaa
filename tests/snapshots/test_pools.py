"""Private pools: recordings of ``record_pools.py`` (PyTorch 2.15 under the dry run), and by hand.

``benchmarks/validation`` of commit 0badf1f has that program last. ``REAL`` is what
``record_pools.py FILE 1`` printed when it ran again with each setting.
"""

from pathlib import Path
from typing import Any

import pytest

from harness.snapshots.explain import explain_file
from harness.snapshots.file_bytes import SnapshotError
from harness.snapshots.pools import POOL_SHIFT
from harness.snapshots.snapshot import read_recording
from tests.known import known
from tests.snapshots.replays import replay_devices
from tests.snapshots.test_replay import MIB, by_hand, entry, recording, segment, written

REAL = {
    "as recorded": 664_797_184,
    "expandable_segments:True": 639_631_360,
    "max_split_size_mb:64": 664_797_184,
    "roundup_power2_divisions:8": 664_797_184,
    "large_segment_size_mb:64": 675_282_944,
    "no private pools": 578_813_952,  # record_pools.py FILE 1 --one-pool
}


@pytest.mark.usefixtures("cuda_build")
def test_what_ifs_with_private_pools_need_what_they_really_needed() -> None:
    (explanation,) = explain_file(recording("pools"))
    peaks = {each.name: known(each.peak_reserved_bytes) for each in explanation.what_ifs}
    assert {name: peaks[name] for name in REAL} == {name: (at, at) for name, at in REAL.items()}


@pytest.mark.usefixtures("cuda_build")
def test_memory_that_is_free_in_private_pools_is_named() -> None:
    (explanation,) = explain_file(recording("pools-out-of-memory"))
    assert explanation.diagnosis == "fragmentation"
    assert "The same requests fit with no private pools." in explanation.sentences
    # PyTorch's message calls them "70.74 MiB allocated in private pools".
    assert (
        "186 events of private pools (CUDA graphs, MemPool), which hold 378 MiB at the end; "
        "70.74 MiB of it is free, and no other pool can use that"
    ) in explanation.notes


def private(raw: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Add a segment of a private pool that stays to the end."""
    raw["device_traces"][0] += [
        entry("segment_alloc", 9, 12 * MIB, **more),
        entry("alloc", 9, 12 * MIB, **more),
    ]
    raw["segments"].append({**segment(9, 12 * MIB), "segment_pool_id": (0, 1)})
    return raw


@pytest.mark.usefixtures("cuda_build")
@pytest.mark.parametrize("more", [{"pool_id": (0, 1)}, {}], ids=["event's", "segment's"])
def test_the_pool_of_an_event_is_its_own_or_that_of_its_segment(
    tmp_path: Path, more: dict[str, Any]
) -> None:
    path = written(tmp_path, private(by_hand(), **more))
    events = read_recording(path).snapshots[0].events
    assert [event.stream >> POOL_SHIFT for event in events[-2:]] == [1, 1]
    assert not any(event.stream >> POOL_SHIFT for event in events[:-2])
    replay = replay_devices(path)[0]
    assert any(note.startswith("2 events of private pools") for note in replay.notes)
    assert any("does not record the pool" in note for note in replay.notes) == (not more)


def test_addresses_belong_to_a_private_pool_from_its_segment_on(tmp_path: Path) -> None:
    raw = by_hand()
    raw["device_traces"][0][:0] = [
        entry(action, 9, 12 * MIB)
        for action in ("segment_alloc", "alloc", "free_requested", "free_completed", "segment_free")
    ]
    path = written(tmp_path, private(raw))
    numbers = [event.stream >> POOL_SHIFT for event in read_recording(path).snapshots[0].events]
    assert sum(numbers) == 2
    assert numbers[-2:] == [1, 1]


def test_too_many_pools_are_refused(tmp_path: Path) -> None:
    raw = by_hand()
    raw["device_traces"][0] += [
        entry("alloc", 9, MIB, pool_id=(0, number)) for number in range(1, 4097)
    ]
    with pytest.raises(SnapshotError, match="more than 4,096 private pools"):
        replay_devices(written(tmp_path, raw))
