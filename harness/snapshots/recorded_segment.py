"""Segments and their blocks as they stood when a snapshot was taken."""

from dataclasses import dataclass
from typing import NamedTuple

from harness.snapshots.trace_event import PoolId


class RecordedBlock(NamedTuple):
    """A block of a segment when the snapshot was taken; ``requested`` is 0 where free."""

    address: int
    size_bytes: int
    requested_bytes: int
    state: str


@dataclass(frozen=True, kw_only=True)
class RecordedSegment:
    """A segment, or a mapped stretch of an expandable one, when the snapshot was taken."""

    address: int
    size_bytes: int
    stream: int
    is_large: bool
    is_expandable: bool
    pool: PoolId
    blocks: tuple[RecordedBlock, ...]
