"""Sizes of the caching allocator's blocks and segments, under its default settings.

Source: c10/core/AllocatorConfig.h; c10/cuda/CUDACachingAllocator.cpp (``round_size``,
``get_allocation_size``).
"""

_MIB = 1 << 20


def block_bytes(requested_bytes: int) -> int:
    """Return the size of the block for a request.

    >>> block_bytes(1), block_bytes(513)
    (512, 1024)
    """
    return max(512, -(-requested_bytes // 512) * 512)


def segment_bytes(requested_bytes: int) -> int:
    """Return the size of the segment that is allocated for a request without a free block.

    >>> segment_bytes(1 << 20) >> 20, segment_bytes(2 << 20) >> 20, segment_bytes(11 << 20) >> 20
    (2, 20, 12)
    """
    block = block_bytes(requested_bytes)
    if block <= _MIB:
        return 2 * _MIB
    return 20 * _MIB if block < 10 * _MIB else -(-block // (2 * _MIB)) * 2 * _MIB
