"""Reads the peaks of pinned host memory from PyTorch's host allocator."""

import torch


def pinned_bytes() -> tuple[int, int] | None:
    """Return the peaks of pinned bytes in use and of reserved pinned bytes; None if unknown.

    Counters exist in torch 2.8 and later; bytes in use are counted in torch 2.10 and later.
    """
    counts: dict[str, int] = getattr(torch.cuda, "host_memory_stats", dict)()
    taken = counts.get("allocated_bytes.peak")
    return None if taken is None else (counts.get("active_bytes.peak", taken), taken)
