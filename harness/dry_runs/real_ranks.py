"""Supports ranks that are real processes of this machine.

Gloo and the store are PyTorch's own. NCCL's stub moves the bytes (``stub/cuda/exchange.c``).
"""

import ctypes
import sys
from typing import Any, Final

from harness.dry_runs.ranks import destroy, hold_works
from harness.prediction.after_import import instead

RANK: Final[list[int]] = []
"""The rank of this process in each call of ``init_process_group``."""


def check_store(
    backend: str | None = None, *_: object, store: Any = None, world_size: int = -1, **__: object
) -> None:
    """Refuse ranks whose store is in this process's own memory, as NCCL would wait for them."""
    stores = sys.modules["torch.distributed"]
    while isinstance(store, stores.PrefixStore):
        store = store.underlying_store
    is_nccl = backend is None or "nccl" in str(backend)
    if is_nccl and world_size > 1 and isinstance(store, stores.HashStore):
        ctypes.CDLL(None).pretend_unsupported(b"ncclCommInitRank of ranks that cannot meet")
        raise RuntimeError("NCCL would wait for ranks that cannot join this process's own store")


def begin() -> None:
    """Watch a rank's collectives; call this after joining a process group."""
    c10d: Any = sys.modules["torch.distributed.distributed_c10d"]
    RANK.append(c10d.get_rank())
    if len(RANK) == 1:
        hold_works(c10d.default_pg_timeout)
        destroying = instead(c10d, "destroy_process_group")(destroy)
        vars(sys.modules["torch.distributed"])["destroy_process_group"] = destroying
