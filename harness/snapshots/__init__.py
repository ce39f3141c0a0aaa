"""Recordings of PyTorch's CUDA allocator: read, replayed, explained; imports no torch."""

from harness.snapshots.explain import Explanation, Scaling, explain_file
from harness.snapshots.file_bytes import SnapshotError, is_snapshot
from harness.snapshots.replay import Replay, replay_devices
from harness.snapshots.replay_text import replay_text

__all__ = [
    "Explanation",
    "Replay",
    "Scaling",
    "SnapshotError",
    "explain_file",
    "is_snapshot",
    "replay_devices",
    "replay_text",
]
