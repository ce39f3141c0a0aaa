"""Blocks of PyTorch's allocator of pinned host memory, by its own counters."""

import torch


def block_bytes(asked: int, exact_from_mib: int = 0) -> dict[str, int]:
    """Return what one pinned tensor takes, what stays when it is freed, and after emptying.

    Args:
        asked: bytes of the tensor.
        exact_from_mib: threshold of ``pinned_max_round_threshold_mb``; 0 leaves the default.

    """
    if exact_from_mib:
        settings = f"pinned_max_round_threshold_mb:{exact_from_mib}"
        torch._C._accelerator_setAllocatorSettings(settings)
    torch.zeros(1, device="cuda")
    tensor = torch.empty(asked, dtype=torch.uint8, pin_memory=True)
    alive = _held()
    del tensor
    freed = _held()
    torch._C._host_emptyCache()
    return {"taken_bytes": alive, "freed_bytes": freed, "emptied_bytes": _held()}


def reuse(first: int, second: int) -> dict[str, int]:
    """Return what is taken after a tensor of ``first`` bytes was freed and another one asked for.

    Args:
        first: bytes of the tensor that is freed.
        second: bytes of the one that follows.

    """
    torch.zeros(1, device="cuda")
    tensor = torch.empty(first, dtype=torch.uint8, pin_memory=True)
    del tensor
    tensor = torch.empty(second, dtype=torch.uint8, pin_memory=True)
    return {"taken_bytes": _held(), "alive_bytes": tensor.nbytes}


def _held() -> int:
    return int(torch.cuda.host_memory_stats()["allocated_bytes.current"])
