"""Measures the seconds and the memory to read and replay a recording.

    python -m benchmarks.replay [FILE] [--events 1000000]

Without FILE the script makes a recording of a training loop in the format of PyTorch 2.13, in which
each event is a dict with new strings and a new tuple. Seconds to read are CPU seconds of the
process. PyTorch's allocator runs in another process, so seconds of the replay are wall seconds.
"""

import argparse
import pickle
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from harness.snapshots.device_history import device_histories
from harness.snapshots.file_bytes import Deadline
from harness.snapshots.snapshot import read_recording
from harness.snapshots.what_if import as_recorded, find_work, what_ifs

MIB = 1 << 20
LAYERS = 60
SEGMENT = 8 * MIB
BASE = 0x7F0000000000


def training_events(events: int) -> list[dict[str, Any]]:
    """Return the trace of steps that keep activations and free them, each in a segment."""
    frames = [{"name": "forward", "filename": "/home/me/train.py", "line": 7}]
    kept = [(BASE + layer * SEGMENT, MIB * (1 + layer % 7)) for layer in range(LAYERS)]
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

    for address, _ in kept:
        log("segment_alloc", address, SEGMENT)
    while len(trace) < events:
        for address, size in kept:
            log("alloc", address, size)
        for address, size in reversed(kept):
            log("free_requested", address, size)
            log("free_completed", address, size)
    return trace


def write_recording(path: Path, events: int) -> None:
    """Write the recording; only segments are alive at its end."""
    segments = [
        {
            "device": 0,
            "address": BASE + layer * SEGMENT,
            "total_size": SEGMENT,
            "stream": 0,
            "segment_type": "large",
            "blocks": [{"size": SEGMENT, "requested_size": 0, "state": "inactive"}],
        }
        for layer in range(LAYERS)
    ]
    path.write_bytes(
        pickle.dumps({"segments": segments, "device_traces": [training_events(events)]})
    )


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
        begin = time.monotonic()
        (history,) = device_histories(read_recording(path, Deadline(1e6)))
        case = as_recorded(history, None, find_work(history))
        (replayed,), _ = what_ifs([case], Deadline(1e6))
        both = time.monotonic() - begin
        size = path.stat().st_size
    most_reserved = replayed.peak_reserved_bytes
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{events:,} events, {size / MIB:.1f} MiB: read in {read:.1f} s, read and replayed in")
    print(f"{both:.1f} s, {most:.0f} MiB resident at most; peak reserved {most_reserved}")


if __name__ == "__main__":
    main()
