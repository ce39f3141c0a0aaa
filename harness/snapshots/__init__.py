"""Replay of PyTorch's memory snapshots through the allocator model; imports no torch."""

from harness.snapshots.replay import Replay, replay_file
from harness.snapshots.replay_text import replay_text
from harness.snapshots.unpickler import SnapshotError

__all__ = ["Replay", "SnapshotError", "replay_file", "replay_text"]
