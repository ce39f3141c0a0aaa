"""The allocator's settings: what ``PYTORCH_ALLOC_CONF`` can set, and the size of the GPU.

Source of names, limits and rounding: ``c10/core/AllocatorConfig.h`` and
``CUDACachingAllocator.cpp`` (``round_size``, ``get_allocation_size``) of PyTorch 2.13.
"""

from dataclasses import dataclass, field
from typing import Any, Self

from harness.allocator.settings import INTERVALS, AllocatorConfigError, parse_settings

MIB = 1 << 20
GRANULE_BYTES = 512
SMALL_REQUEST_BYTES = MIB
SMALL_SEGMENT_BYTES = 2 * MIB
OWN_SEGMENT_FROM_BYTES = 10 * MIB
SEGMENT_STEP_BYTES = 2 * MIB
DEFAULT_LARGE_SEGMENT_BYTES = 20 * MIB
UNLIMITED = (1 << 64) - 1

_NO_DIVISIONS = (0,) * INTERVALS


@dataclass(frozen=True, kw_only=True)
class AllocatorConfig:
    """Everything that decides how the allocator answers, apart from the requests.

    Args:
        expandable_segments: one growing address range per pool and stream.
        max_split_size_bytes: blocks of at least this size are never split.
        max_non_split_rounding_bytes: how much longer an unsplit block may be.
        roundup_power2_divisions: steps per power of two, for requests of 1, 2, 4, ... MiB
            (16 entries, the last for 32 GiB and more); 0 or 1 means off.
        garbage_collection_threshold: share of the limit above which old blocks go back;
            0 means never. It acts only where ``memory_fraction`` is below 1.
        large_segment_size_bytes: segment for requests above 1 MiB and below 10 MiB.
        memory_fraction: share of ``total_bytes`` that the allocator may reserve.
        total_bytes: the GPU's memory as the driver states it; None is a GPU without end.
        outside_bytes: what context, libraries and other processes hold of it.

    Raises:
        AllocatorConfigError: a value that PyTorch would refuse, or a fraction of nothing.
    """

    expandable_segments: bool = False
    max_split_size_bytes: int = UNLIMITED
    max_non_split_rounding_bytes: int = DEFAULT_LARGE_SEGMENT_BYTES
    roundup_power2_divisions: tuple[int, ...] = field(default=_NO_DIVISIONS)
    garbage_collection_threshold: float = 0.0
    large_segment_size_bytes: int = DEFAULT_LARGE_SEGMENT_BYTES
    memory_fraction: float = 1.0
    total_bytes: int | None = None
    outside_bytes: int = 0

    def __post_init__(self) -> None:
        least, divisions = DEFAULT_LARGE_SEGMENT_BYTES, self.roundup_power2_divisions
        rules = {
            "large_segment_size_bytes": (
                self.large_segment_size_bytes > OWN_SEGMENT_FROM_BYTES,
                f"above {OWN_SEGMENT_FROM_BYTES}",
            ),
            "max_split_size_bytes": (self.max_split_size_bytes >= least, f"at least {least}"),
            "max_non_split_rounding_bytes": (
                self.max_non_split_rounding_bytes >= least,
                f"at least {least}",
            ),
            "roundup_power2_divisions": (
                len(divisions) == INTERVALS and all(d >= 0 and not d & (d - 1) for d in divisions),
                f"{INTERVALS} powers of two",
            ),
            "garbage_collection_threshold": (
                0 <= self.garbage_collection_threshold < 1,
                "above 0 and below 1",
            ),
            "memory_fraction": (0 <= self.memory_fraction <= 1, "from 0 to 1"),
            "total_bytes": (self.total_bytes is None or self.total_bytes >= 1, "at least 1"),
            "outside_bytes": (self.outside_bytes >= 0, "at least 0"),
        }
        for name, (holds, rule) in rules.items():
            if not holds:
                raise AllocatorConfigError(f"{name} must be {rule}, got {getattr(self, name)}")
        if self.total_bytes is None and self.memory_fraction != 1:
            raise AllocatorConfigError("memory_fraction needs total_bytes")

    @classmethod
    def from_settings(
        cls, text: str, *, total_bytes: int | None = None, outside_bytes: int = 0
    ) -> Self:
        """Return the settings that ``PYTORCH_ALLOC_CONF=text`` would make."""
        fields: dict[str, Any] = parse_settings(text)
        return cls(total_bytes=total_bytes, outside_bytes=outside_bytes, **fields)

    def limit_bytes(self) -> int | None:
        """Return what the per-process fraction allows, or None where it sets no limit.

        To the nearest byte: torch 2.13 grants a segment of b bytes from (b - 1/2) / total on.
        """
        if self.total_bytes is None or self.memory_fraction == 1:
            return None
        return int(self.memory_fraction * self.total_bytes + 0.5)

    def rounds_plainly(self) -> bool:
        """Return whether every request is rounded to 512 bytes and no further."""
        return all(divisions <= 1 for divisions in self.roundup_power2_divisions)

    def round_request(self, size_bytes: int) -> int:
        """Return the block size that a request of ``size_bytes`` asks for."""
        if size_bytes < GRANULE_BYTES:
            return GRANULE_BYTES
        power = size_bytes.bit_length() - 1
        divisions = self.roundup_power2_divisions[min(max(power - 20, 0), INTERVALS - 1)]
        if divisions <= 1 or size_bytes <= GRANULE_BYTES * divisions:
            return -(-size_bytes // GRANULE_BYTES) * GRANULE_BYTES
        step = (1 << power) // divisions
        return -(-size_bytes // step) * step

    def segment_size(self, rounded_bytes: int) -> int:
        """Return the size of the new segment that a block of ``rounded_bytes`` would get."""
        if rounded_bytes <= SMALL_REQUEST_BYTES:
            return SMALL_SEGMENT_BYTES
        if rounded_bytes < OWN_SEGMENT_FROM_BYTES:
            return self.large_segment_size_bytes
        return -(-rounded_bytes // SEGMENT_STEP_BYTES) * SEGMENT_STEP_BYTES
