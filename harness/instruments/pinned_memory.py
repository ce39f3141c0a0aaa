"""Pinned memory of the host, as PyTorch's own allocator of it counts."""

import torch


def pinned_bytes() -> tuple[int, int] | None:
    """Return most pinned bytes in use, and most that PyTorch's host allocator took.

    Up to torch 2.9 it does not count what is in use, and before 2.8 it counts nothing.
    """
    counts: dict[str, int] = getattr(torch.cuda, "host_memory_stats", dict)()
    taken = counts.get("allocated_bytes.peak")
    return None if taken is None else (counts.get("active_bytes.peak", taken), taken)
