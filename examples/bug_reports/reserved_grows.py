"""pytorch#123548 (PR 193400): two incompatible settings of the allocator.

PYTORCH_ALLOC_CONF=max_split_size_mb:128,expandable_segments:True
"""

import torch

MIB = 1 << 20


def empty(mib: float) -> torch.Tensor:
    """Return an uninitialized tensor on the GPU."""
    return torch.empty(int(mib * MIB), dtype=torch.uint8, device="cuda")


kept = [empty(64)]
for cycle in range(116):
    large, half = empty(91), empty(45.5)
    kept.append(empty(2))  # what stays alive behind the two keeps their room from being used again
    del large, half
    if cycle % 20 == 0 or cycle > 113:
        allocated, reserved = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
        retries = torch.cuda.memory_stats()["num_alloc_retries"]
        print(cycle, allocated // MIB, reserved // MIB, retries)
