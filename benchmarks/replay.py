"""Seconds and memory that reading and replaying a recording takes.

    python -m benchmarks.replay [FILE] [--events 1000000]

Without a FILE a recording is made as PyTorch 2.13 writes one: a training loop through the
allocator model, a dict with new strings and a new tuple for each event. Seconds are the
process's own (CPU) seconds, so that a busy machine does not count.
"""

import argparse
import pickle
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.validation.follower import agreement_of
from harness.allocator import CachingAllocator
from harness.snapshots.file_bytes import Deadline
from harness.snapshots.replay import replay_devices
from harness.snapshots.snapshot import read_recording

MIB = 1 << 20
LAYERS = 60


def training_events(events: int) -> tuple[list[dict[str, Any]], CachingAllocator]:
    """Return the trace of steps that keep activations and free them, and the allocator after."""
    model = CachingAllocator()
    frames = [{"name": "forward", "filename": "/home/me/train.py", "line": 7}]
    trace: list[dict[str, Any]] = []

    def log(action: str, address: int, size: int) -> None:
        trace.append(
            {
                "action": action,
                "addr": address,
                "size": size,
                "stream": 0,
                "time_us": 1_795_569_860_035_132 + len(trace),
                "compile_context": "".join(["N/", "A"]),
                "user_metadata": "".join(["a", "b"]),
                "pool_id": tuple(bytes(2)),
                "frames": list(frames),
            }
        )

    def request(size: int) -> int:
        begun = len(model.segment_log)
        address = model.malloc(size)
        for event in model.segment_log[begun:]:
            log(event.action, event.address, event.size_bytes)
        log("alloc", address, size)
        return address

    while len(trace) < events:
        kept = [
            (request(size), size) for layer in range(LAYERS) for size in [MIB * (1 + layer % 7)]
        ]
        for address, size in reversed(kept):
            log("free_requested", address, size)
            log("free_completed", address, size)
            model.free(address)
    return trace, model


def write_recording(path: Path, events: int) -> None:
    """Write such a recording; nothing is alive at its end but the segments."""
    trace, model = training_events(events)
    segments = [
        {
            "device": 0,
            "address": head.address,
            "total_size": head.size,
            "stream": 0,
            "segment_type": "large",
            "blocks": [{"size": head.size, "requested_size": 0, "state": "inactive"}],
        }
        for head in model.blocks()
        if head.previous is None
    ]
    path.write_bytes(pickle.dumps({"segments": segments, "device_traces": [trace]}))


def main() -> None:
    """Print seconds, peak memory and events."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--events", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.file or Path(folder) / "recording.pickle"
        if arguments.file is None:
            write_recording(path, arguments.events)
        begin = time.process_time()
        recording = read_recording(path, Deadline(1e6))
        read = time.process_time() - begin
        events = sum(len(snapshot.events) for snapshot in recording.snapshots)
        del recording
        begin = time.process_time()
        replay_devices(path, deadline_seconds=1e6)
        both = time.process_time() - begin
        size = path.stat().st_size
        agreement = agreement_of(path)
    complete = agreement.is_complete()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{events:,} events, {size / MIB:.1f} MiB: read in {read:.1f} s, read and replayed in")
    print(f"{both:.1f} s, {most:.0f} MiB resident at most; model equals recording: {complete}")


if __name__ == "__main__":
    main()
