"""A segment and its blocks as a recording describes them."""

from dataclasses import dataclass
from typing import Literal, NamedTuple


class BlockState(NamedTuple):
    """A part of a segment: its bytes, the requested bytes (0 if free), its state."""

    size_bytes: int
    requested_bytes: int
    state: Literal["free", "allocated", "awaiting", "unmapped"]


@dataclass(frozen=True, kw_only=True)
class SegmentState:
    """A segment, described from its low end; an expandable one from its mapped part on."""

    address: int
    stream: int
    is_large: bool
    is_expandable: bool
    blocks: tuple[BlockState, ...]
