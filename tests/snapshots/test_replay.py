"""Recordings replayed through PyTorch's own allocator, and small ones worked by hand."""

import gzip
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.dry_runs.pretended_gpu import AllocatorSettingsError
from harness.snapshots.file_bytes import SnapshotError
from harness.snapshots.initial_state import find_origin
from harness.snapshots.snapshot import read_recording
from harness.snapshots.trace_event import reserved_change
from tests.commands import Ask
from tests.property_size import examples
from tests.snapshots.replays import replay_devices

SNAPSHOTS = Path(__file__).parent / "recordings"
MIB = 1 << 20


def recording(name: str) -> Path:
    return SNAPSHOTS / f"{name}.pickle.gz"


@pytest.mark.usefixtures("cuda_build")
@pytest.mark.parametrize(
    ("name", "reserved"),
    [
        ("resnet18-start", 364_904_448),
        ("pools", 664_797_184),
        ("pools-two-streams", 744_488_960),
        ("pools-expandable", 639_631_360),
    ],
)
def test_a_recording_replayed_as_it_was_reserves_what_was_recorded(
    name: str, reserved: int
) -> None:
    replay = replay_devices(recording(name))[0]
    assert replay.recorded_peak_reserved_bytes == reserved, "with what was there before"
    assert replay.what_ifs[0].peak_reserved_bytes == (reserved, reserved)


@settings(max_examples=examples(25))
@given(cut=st.integers(0, 3410))
def test_the_beginning_found_backwards_is_what_the_events_before_made(cut: int) -> None:
    snapshot = read_recording(recording("resnet18-start")).snapshots[0]
    live: dict[int, int] = {}
    for event in snapshot.events[:cut]:
        if event.action == "alloc":
            live[event.address] = event.size_bytes
        elif event.action == "free_requested":
            del live[event.address]
    origin = find_origin(snapshot, snapshot.events[cut:])
    assert live == {address: event.size_bytes for address, event in origin.live.items()}
    assert origin.reserved_bytes == sum(map(reserved_change, snapshot.events[:cut]))


# A recording by hand: three tensors of 12 MiB, the second freed, one of 11 MiB in its place.
BASE = 0x7F0000000000


def entry(action: str, slot: int, size: int, **more: Any) -> dict[str, Any]:
    key = "device_free" if action == "oom" else "addr"
    return {"action": action, key: BASE + slot * 16 * MIB, "size": size, "stream": 0, **more}


def freed(slot: int, size: int) -> list[dict[str, Any]]:
    return [entry("free_requested", slot, size), entry("free_completed", slot, size)]


def block(slot: int, size: int, requested: int) -> dict[str, Any]:
    state = "active_allocated" if requested else "inactive"
    return {"size": size, "requested_size": requested, "state": state}


def segment(slot: int, requested: int) -> dict[str, Any]:
    return {
        "device": 0, "address": BASE + slot * 16 * MIB, "total_size": 12 * MIB, "stream": 0,
        "segment_type": "large", "blocks": [block(slot, 12 * MIB, requested)],
    }  # fmt: skip


def by_hand() -> dict[str, Any]:
    size = 12 * MIB
    frame = {"filename": "/somewhere/model.py", "name": "forward", "line": 7}
    trace = []
    for slot in range(3):
        trace.append(entry("segment_alloc", slot, size))
        trace.append(entry("alloc", slot, size, frames=[frame], time_us=1_000_000 * (slot + 1)))
    for event in trace:
        event.setdefault("time_us", 1_000_000)
    trace += freed(1, size)
    trace.append(entry("alloc", 1, 11 * MIB, time_us=9_000_000))
    return {
        "segments": [segment(0, size), segment(1, 11 * MIB), segment(2, size)],
        "device_traces": [[], trace[:0], trace][2:],
    }


def written(folder: Path, raw: Any) -> Path:
    path = folder / "snapshot.pickle"
    path.write_bytes(pickle.dumps(raw))
    return path


@pytest.mark.usefixtures("cuda_build")
def test_a_recording_by_hand_agrees_and_its_peak_is_known(tmp_path: Path) -> None:
    path = written(tmp_path, by_hand())
    replay = replay_devices(path)[0]
    assert replay.what_ifs[0].peak_reserved_bytes == (36 * MIB, 36 * MIB)
    assert replay.peak_alive_bytes == 36 * MIB
    assert replay.notes == (
        "the recording holds no settings (before PyTorch 2.3): defaults are assumed",
    )


@pytest.mark.usefixtures("cuda_build")
@pytest.mark.parametrize(
    ("memory", "verdicts", "position"),
    # By default three segments of 12 MiB; expandable, units of 20: two from the second on.
    [
        (40, ["fits", "fits"], None),
        (39, ["fits", "does not fit"], 3),
        (35, ["does not fit"] * 2, 3),
    ],
)
def test_what_if_the_gpu_were_smaller(
    tmp_path: Path, memory: int, verdicts: list[str], position: int | None
) -> None:
    path = written(tmp_path, by_hand())
    replay = replay_devices(path, memory_bytes=memory * MIB)[0]
    assert [case.verdict for case in replay.what_ifs] == verdicts
    expandable = replay.what_ifs[1]
    if position is None:
        assert expandable.peak_reserved_bytes == (40 * MIB, 40 * MIB)
    else:
        ran_out, again = expandable.ran_out
        assert again == ran_out, "addresses do not matter in expandable segments"
        assert (ran_out.position, ran_out.requested_bytes) == (position, 12 * MIB)
        assert (ran_out.allocated_bytes, ran_out.seconds) == (12 * MIB, 1.0)
        assert ran_out.place == "forward (model.py:7)"


@pytest.mark.usefixtures("cuda_build")
def test_what_if_the_settings_were_others(tmp_path: Path) -> None:
    path = written(tmp_path, by_hand())
    half = "per_process_memory_fraction:0.5"
    case = replay_devices(path, settings=half, memory_bytes=60 * MIB)[0].what_ifs[1]
    assert case.name == half
    assert [failure.position for failure in case.ran_out] == [5, 5], "two segments of 12 in 30"
    assert replay_devices(path, settings=half, memory_bytes=72 * MIB)[0].what_ifs[1].ran_out == ()
    with pytest.raises(AllocatorSettingsError, match="per_process_memory_fraction has no answer"):
        replay_devices(path, settings=half)


@pytest.mark.usefixtures("cuda_build")
def test_from_the_middle_the_blocks_before_are_alive(tmp_path: Path) -> None:
    raw = by_hand()
    raw["device_traces"] = [raw["device_traces"][0][6:]]  # from the release on
    path = written(tmp_path, raw)
    replay = replay_devices(path)[0]
    assert replay.history.alive_bytes[0] == 3 * 12 * MIB
    assert replay.peak_alive_bytes == replay.recorded_peak_reserved_bytes == 36 * MIB
    assert "begins in the middle: 3 blocks and 37748736 reserved bytes" in replay.notes[1]


@pytest.mark.usefixtures("cuda_build")
def test_the_cache_emptied_by_the_program_is_emptied_in_the_what_ifs(tmp_path: Path) -> None:
    raw = by_hand()
    trace = raw["device_traces"][0][:-1]  # the second block stays free
    trace.append(entry("segment_free", 1, 12 * MIB))
    trace += [entry("segment_alloc", 3, 30 * MIB), entry("alloc", 3, 30 * MIB)]
    raw["device_traces"] = [trace]
    last = {**segment(3, 0), "total_size": 30 * MIB, "blocks": [block(3, 30 * MIB, 30 * MIB)]}
    raw["segments"] = [segment(0, 12 * MIB), segment(2, 12 * MIB), last]
    path = written(tmp_path, raw)
    replay = replay_devices(path)[0]
    # Here the release made room for a request: with room for all, nothing goes back.
    assert replay.what_ifs[0].peak_reserved_bytes == (66 * MIB, 66 * MIB)
    trace.insert(-2, entry("snapshot", 0, 0))  # whatever comes between, it was the program
    replay = replay_devices(written(tmp_path, raw))[0]
    assert replay.what_ifs[0].peak_reserved_bytes == (54 * MIB, 54 * MIB)


OLD = {
    "segments", "device_traces", "blocks", "action", "addr", "size", "stream", "frames", "device",
    "address", "total_size", "segment_type", "requested_size", "state", "filename", "name",
    "line",
}  # fmt: skip


def as_of_old(raw: Any) -> Any:
    """Return a recording without the keys that later versions of PyTorch added."""
    if isinstance(raw, dict):
        return {key: as_of_old(value) for key, value in raw.items() if key in OLD}
    return [as_of_old(each) for each in raw] if isinstance(raw, list) else raw


@pytest.mark.usefixtures("cuda_build")
def test_old_recordings_without_the_later_keys_are_read(tmp_path: Path) -> None:
    with gzip.open(recording("resnet18-start")) as file:
        raw = pickle.load(file)
    path = written(tmp_path, as_of_old(raw))
    assert replay_devices(path)[0].peak_alive_bytes > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (5, "no memory snapshot"),
        ([], "no trace; record one with PyTorch 2.1"),
        ({}, "no memory snapshot"),
        ({"device_traces": []}, "no trace of any device"),
        ({"device_traces": [[{"action": 5}]]}, "got `int` - at"),
        ({"device_traces": [[entry("alloc", 0, -1)]]}, r"`int` >= 0 - at `\$.size`"),
        ({"device_traces": [[entry("alloc", 0, 2**60)]]}, r"`int` <= .* at `\$.size`"),
        ({"device_traces": [[{"action": "alloc", "addr": "x"}]]}, r"got `str` - at `\$.addr`"),
        ({"device_traces": [[entry("alloc", 0, 2**43) for _ in range(9000)]]}, "more than any GPU"),
        ({"segments": [{**segment(0, 0), "total_size": 5}]}, "do not fill it"),
        ({"segments": [{**segment(0, 0), "blocks": [{}]}]}, "missing required field `size`"),
        ({"allocator_settings": 3}, "Expected `object`, got `int`"),
    ],
)
def test_what_is_no_snapshot_is_refused_in_one_line(
    tmp_path: Path, change: Any, message: str
) -> None:
    path = written(tmp_path, by_hand() | change if change and change != 5 else change)
    with pytest.raises(SnapshotError, match=message) as caught:
        replay_devices(path)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("cuda_build")
def test_a_setting_that_is_misspelt_is_pytorchs_own_error_and_another_one_is_tried(
    ask: Ask, tmp_path: Path
) -> None:
    path = str(written(tmp_path, by_hand()))
    wrong = ask(["explain", path, "--what-if", "expandible_segments:True"], 2).err
    assert "Unrecognized key 'expandible_segments'" in wrong
    assert wrong.count("\n") == 1
    out = ask(["explain", path, "--what-if", "max_split_size_mb:128"]).out
    assert "max_split_size_mb:128: needs: peak reserved" in out
