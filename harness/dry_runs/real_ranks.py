"""Supports ranks that are real processes: Gloo and the store are real, NCCL is a stub.

The stub of NCCL moves no data. A tensor that would receive data keeps its own values or gets
unknown values, as in ``ranks.py``. Transfers of Python objects and barriers also run on PyTorch's
own Gloo, so their results are real.
"""

import ctypes
import functools
import inspect
from collections.abc import Callable
from typing import Any, Final

from harness.dry_runs.ranks import agree, destroy, exchanges_of_objects, hold_works
from harness.prediction.after_import import instead

NOTES: Final[dict[str, None]] = {}
"""Notes about this process's ranks, without duplicates."""
RANK: Final[list[int]] = []
"""The rank of this process in each call of ``init_process_group``."""
_sides: Final[dict[Any, Any]] = {}


def begin() -> None:
    """Replace functions that send objects over NCCL; call this after joining a process group."""
    import torch.distributed as dist
    from torch.distributed import distributed_c10d as c10d
    from torch.nn.parallel import distributed as data_parallel

    is_first = not RANK
    RANK.append(c10d.get_rank())
    _sides.clear()
    if not is_first:
        return
    stores: Any = dist
    store = c10d._get_default_store()
    while isinstance(store, stores.PrefixStore):
        store = store.underlying_store
    if isinstance(store, stores.HashStore) and not _has_gloo_alone(c10d, None):
        ctypes.CDLL(None).pretend_unsupported(b"ncclCommInitRank of ranks that cannot meet")
        raise RuntimeError("NCCL would wait for ranks that cannot join this process's own store")
    NOTES[
        "NCCL moved nothing between the ranks: a broadcast leaves a rank its own values, and what"
        " it would receive of the others' is not known"
    ] = None
    hold_works(c10d.default_pg_timeout)
    agree(c10d, data_parallel)
    stand_ins = {
        name: _also_over_gloo(c10d, getattr(c10d, name), pretended)
        for name, pretended in exchanges_of_objects(c10d, lambda _: None).items()
    }
    stand_ins["barrier"] = _also_over_gloo(c10d, c10d.barrier, c10d.barrier)
    stand_ins["destroy_process_group"] = instead(c10d, "destroy_process_group")(destroy)
    for module in (dist, c10d):
        vars(module).update(stand_ins)


def _also_over_gloo(
    c10d: Any, real: Callable[..., Any], pretended: Callable[..., Any]
) -> Callable[..., Any]:
    """Return a function that makes NCCL's allocations and then sends the data over Gloo."""
    bind = inspect.signature(real).bind

    @functools.wraps(real)
    def exchange(*arguments: Any, **named: Any) -> Any:
        given = bind(*arguments, **named)
        group = given.arguments.get("group")
        if c10d.get_rank(group) < 0 or _has_gloo_alone(c10d, group):
            return real(*arguments, **named)
        result = pretended(*arguments, **named)
        if not given.arguments.get("async_op"):
            given.arguments["group"] = _side(c10d, group)
            real(*given.args, **given.kwargs)
        return result

    return exchange


def _has_gloo_alone(c10d: Any, group: Any) -> bool:
    return "nccl" not in str(c10d.get_backend_config(group))


def _side(c10d: Any, group: Any) -> Any:
    """Return a Gloo group with the ranks of ``group``; all these ranks must call this function."""
    key = group or "all"
    if key not in _sides:
        ranks = c10d.get_process_group_ranks(group or c10d._get_default_group())
        _sides[key] = c10d.new_group(ranks, backend="gloo", use_local_synchronization=True)
    return _sides[key]
