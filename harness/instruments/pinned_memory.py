"""Pinned memory of the host, as counted by PyTorch's host allocator."""

import torch


def pinned_bytes() -> tuple[int, int] | None:
    """Return the peaks of pinned bytes: in use, and reserved by PyTorch's host allocator.

    Up to torch 2.9 the allocator does not count bytes in use, and before 2.8 it has no counters.
    """
    counts: dict[str, int] = getattr(torch.cuda, "host_memory_stats", dict)()
    taken = counts.get("allocated_bytes.peak")
    return None if taken is None else (counts.get("active_bytes.peak", taken), taken)
