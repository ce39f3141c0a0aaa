"""Computes sizes of blocks and segments in the caching allocator with default settings.

Source: c10/core/AllocatorConfig.h; c10/cuda/CUDACachingAllocator.cpp (``round_size``,
``get_allocation_size``).
"""

_MIB = 1 << 20


def block_bytes(requested_bytes: int) -> int:
    """Return the size of the block that the allocator uses for a request.

    >>> block_bytes(1), block_bytes(513)
    (512, 1024)
    """
    return max(512, -(-requested_bytes // 512) * 512)


def segment_bytes(requested_bytes: int) -> int:
    """Return the size of the segment that the allocator adds if no free block is large enough.

    >>> segment_bytes(1 << 20) >> 20, segment_bytes(2 << 20) >> 20, segment_bytes(11 << 20) >> 20
    (2, 20, 12)
    """
    block = block_bytes(requested_bytes)
    if block <= _MIB:
        return 2 * _MIB
    return 20 * _MIB if block < 10 * _MIB else -(-block // (2 * _MIB)) * 2 * _MIB
