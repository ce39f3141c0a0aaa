"""Replay of PyTorch's memory snapshots through the allocator model; imports no torch."""

from harness.replay.replay import Replay, replay_file
from harness.replay.text import replay_text
from harness.replay.unpickler import SnapshotError

__all__ = ["Replay", "SnapshotError", "replay_file", "replay_text"]
