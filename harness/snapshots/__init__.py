"""Recordings of PyTorch's CUDA allocator: read, replayed, explained; imports no torch."""

from harness.snapshots.file_bytes import SnapshotError
from harness.snapshots.replay import Replay, replay_devices, replay_file
from harness.snapshots.replay_text import replay_text

__all__ = ["Replay", "SnapshotError", "replay_devices", "replay_file", "replay_text"]
