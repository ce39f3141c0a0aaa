"""One rank of many in one process: PyTorch's own process groups over an NCCL that moves nothing.

``stub/nccl.c`` is that NCCL, so a group allocates and keeps what it does on a GPU. Answered here is
what ranks ask each other without NCCL: in their store, about Python objects, on the host.
"""

import contextlib
import ctypes
import datetime
import functools
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from harness.dry_run.after_import import after_import
from harness.dry_run.kept_works import hold_works
from harness.dry_run.value_reads import LIBRARY_VARIABLE

_IDENTIFIER = bytes(128)
"""NCCL's, which the first rank of a group writes into the store."""


def variables(rank: int, world_size: int | None, gpus: int) -> dict[str, str]:
    """Return the environment variables that ``torchrun`` sets for a rank; none without ranks."""
    if world_size is None:
        return {}
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": str(rank % gpus),
        "LOCAL_WORLD_SIZE": str(min(gpus, world_size)),
        "GROUP_RANK": str(rank // gpus),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29500",
        "HARNESS_DRY_RUN_RANKS": "1",
    }


def pretend_ranks(notes: list[str]) -> None:
    """Answer for the other ranks; PyTorch's process groups stay as they are."""
    import torch.distributed as dist
    from torch.distributed import distributed_c10d as c10d
    from torch.nn.parallel import distributed as data_parallel

    def note(text: str) -> None:
        if text not in notes:
            notes.append(text)

    stand_ins = {
        "TCPStore": (store := _store(dist)),
        "FileStore": store,
        "ProcessGroupGloo": _HostGroup,
        "destroy_process_group": _ending(c10d.destroy_process_group),
        "monitored_barrier": lambda *_, **__: None,
        "all_gather_object": _agreeing(c10d.all_gather_object, note),
        "gather_object": _agreeing(c10d.gather_object, note),
        "broadcast_object_list": _from_source(c10d, "broadcast_object_list", note),
        "scatter_object_list": _scattering(c10d, note),
        "recv_object_list": _from_source(c10d, "recv_object_list", note),
    }
    rendezvous = sys.modules["torch.distributed.rendezvous"]  # its package names a function so
    for module in (dist, c10d, rendezvous):
        vars(module).update((name, one) for name, one in stand_ins.items() if hasattr(module, name))
    verify = "_verify_param_shape_across_processes"
    setattr(data_parallel, verify, _agreeing(getattr(data_parallel, verify)))
    after_import("torch.distributed.pipelining.schedules", _stages_agree)
    for name, method in (("ProcessGroup", "split_group"), ("ProcessGroupNCCL2", "split")):
        if group := getattr(c10d, name, None):
            setattr(group, method, _counting(getattr(group, method)))


def end_ranks() -> None:
    """End the groups that the script left: their threads must not outlive the interpreter."""
    dist = sys.modules.get("torch.distributed")
    if dist is not None and dist.is_available() and dist.is_initialized():
        with contextlib.suppress(Exception):
            dist.destroy_process_group()


def host_collectives() -> bool:
    """Return whether the ranks exchanged tensors of the host."""
    return bool(_values().harness_host_collectives())


def _values() -> ctypes.CDLL:
    return ctypes.CDLL(os.environ[LIBRARY_VARIABLE])


def _store(dist: Any) -> type:
    """Return the store of a rank that is alone: it holds its own keys, and waits for nobody."""
    alive: list[object] = []

    class RankStore(dist.Store):  # type: ignore[misc]
        def __init__(self, *_: object, **__: object) -> None:
            super().__init__()
            self._held: dict[str, bytes] = {}
            alive.append(self)  # C++ does not keep what is Python's in it

        def set(self, key: str, value: str | bytes) -> None:
            self._held[key] = value.encode() if isinstance(value, str) else bytes(value)

        def get(self, key: str) -> bytes:
            if key not in self._held and "//cuda//" not in key:
                raise LookupError(f"harness dry-run: the rank that sets {key!r} does not run")
            return self._held.get(key, _IDENTIFIER)

        def multi_get(self, keys: Sequence[str]) -> list[bytes]:
            return [self.get(key) for key in keys]

        def add(self, key: str, number: int) -> int:
            self._held[key] = str(int(self._held.get(key, b"0")) + number).encode()
            return int(self._held[key])

        def check(self, keys: Sequence[str]) -> bool:
            return all(key in self._held for key in keys)

        def wait(self, *_: object) -> None: ...

        def set_timeout(self, timeout: datetime.timedelta) -> None:
            hold_works(timeout)

        def clone(self) -> "RankStore":
            return self

    return RankStore


class _AnyGroup(type):
    def __instancecheck__(cls, group: object) -> bool:
        return type(group).__name__ == "FakeProcessGroup"


class _HostGroup(metaclass=_AnyGroup):
    """Gloo's stand-in, PyTorch's fake group: other ranks hold the same, a sum is this rank's."""

    def __new__(cls, store: object, rank: int, size: int, *_: object, **__: object) -> Any:
        from torch._C._distributed_c10d import FakeProcessGroup

        del store
        group: Any = FakeProcessGroup
        group._set_sequence_number_for_group = lambda _: None  # up to torch 2.13 it fails
        return getattr(FakeProcessGroup, "_create_internal", FakeProcessGroup)(rank, size)


def _agreeing(
    real: Callable[..., Any], note: Callable[[str], None] | None = None
) -> Callable[..., Any]:
    """Have every rank send, for the time of a call, what this one sends (``stub/values.cpp``)."""

    @functools.wraps(real)
    def agreeing(*arguments: Any, **named: Any) -> Any:
        if note is not None:
            note(f"{real.__name__}: the other ranks were taken to send what this rank sent")
        _values().harness_ranks_agree(1)
        try:
            return real(*arguments, **named)
        finally:
            _values().harness_ranks_agree(0)

    return agreeing


def _stages_agree(schedules: ModuleType) -> None:
    """Have every stage of a pipeline know its shapes if this one does: torch 2.15 has a vote."""
    vote = "_initialize_pipeline_distributed_state"
    for kind in vars(schedules).values():
        if isinstance(kind, type) and vote in vars(kind):
            setattr(kind, vote, _agreeing(vars(kind)[vote]))


def _from_source(c10d: Any, name: str, note: Callable[[str], None]) -> Callable[..., Any]:
    """Leave a list as it is on a rank that would receive it."""
    real = getattr(c10d, name)

    @functools.wraps(real)
    def kept(
        objects: list[Any], src: int | None = None, group: Any = None, *more: Any, **named: Any
    ) -> Any:
        within = named.get("group_src")
        here = c10d.get_rank() if within is None else c10d.get_rank(group)
        if name.startswith("broadcast") and here == (within or src or 0):
            return real(objects, src, group, *more, **named)
        note(f"{name}: this rank kept its own objects, those of the other rank are not known")
        return src

    return kept


def _scattering(c10d: Any, note: Callable[[str], None]) -> Callable[..., Any]:
    """Give this rank its object of the list that it has, if it has one."""

    @functools.wraps(c10d.scatter_object_list)
    def scattered(
        output: list[Any],
        objects: Sequence[Any] | None = None,
        *where: Any,
        **named: Any,
    ) -> None:
        group = named.get("group", where[1] if len(where) > 1 else None)
        if objects:
            output[0] = objects[c10d.get_rank(group)]
        else:
            note("scatter_object_list: this rank kept its own object, the other is not known")

    return scattered


def _ending(destroy: Callable[..., Any]) -> Callable[..., Any]:
    """Let PyTorch find works complete before it waits for them."""

    @functools.wraps(destroy)
    def ending(*arguments: Any, **named: Any) -> Any:
        ctypes.CDLL(None).pretend_hold_works(0)
        return destroy(*arguments, **named)

    return ending


def _counting(split: Callable[..., Any]) -> Callable[..., Any]:
    """Tell NCCL how many ranks a split has, which it would learn from them."""

    @functools.wraps(split)
    def counting(*arguments: Any, **named: Any) -> Any:
        ranks = next(one for one in (*arguments, *named.values()) if isinstance(one, list))
        ctypes.CDLL(None).pretend_split(len(ranks))
        return split(*arguments, **named)

    return counting
