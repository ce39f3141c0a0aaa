"""One rank of many in one process: PyTorch's own process groups over an NCCL that moves nothing.

``stub/nccl.c`` is that NCCL, so a group allocates and keeps what it does on a GPU. What is left to
do here is to answer for the ranks that do not run, before NCCL is asked and beside it: the store
that they would meet in, Python objects, and tensors of the host.
"""

import contextlib
import ctypes
import datetime
import functools
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from harness.dry_run.kept_works import hold_works
from harness.dry_run.value_reads import LIBRARY_VARIABLE


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
    """Answer for the other ranks; PyTorch's ``init_process_group`` and groups stay as they are."""
    import torch.distributed as dist
    from torch.distributed import distributed_c10d as c10d
    from torch.nn.parallel import distributed as data_parallel

    def note(text: str) -> None:
        if text not in notes:
            notes.append(text)

    store, host_group = _store(dist), _host_group(c10d)
    objects = _Objects(c10d, note)
    modules = (dist, c10d)
    for module in (*modules, sys.modules["torch.distributed.rendezvous"]):  # not its function
        for name in ("TCPStore", "FileStore"):
            setattr(module, name, store)
    for module in modules:
        module.ProcessGroupGloo = host_group
        module.monitored_barrier = lambda *_, **__: None
        for name in _Objects.ANSWERED:
            setattr(module, name, getattr(objects, name))
    verify = data_parallel._verify_param_shape_across_processes
    data_parallel._verify_param_shape_across_processes = _agreeing(verify)
    _count_split_ranks(c10d)


def end_ranks() -> None:
    """End the groups that the script left: their threads must not outlive the interpreter."""
    dist = sys.modules.get("torch.distributed")
    if dist is not None and dist.is_initialized():
        with contextlib.suppress(Exception):
            dist.destroy_process_group()


def host_collectives() -> bool:
    """Return whether ranks exchanged tensors of the host."""
    return bool(ctypes.CDLL(os.environ[LIBRARY_VARIABLE]).harness_host_collectives())


def _store(dist: Any) -> type:
    """Return the store that a rank alone needs: it holds this rank's keys, and waits for nobody."""

    alive: list[object] = []

    class RankStore(dist.Store):  # type: ignore[misc]
        def __init__(self, *_: object, **__: object) -> None:
            super().__init__()
            self._held: dict[str, bytes] = {}
            alive.append(self)  # C++ keeps no reference to what is Python's in it

        def set(self, key: str, value: Any) -> None:
            self._held[key] = value.encode() if isinstance(value, str) else bytes(value)

        def get(self, key: str) -> bytes:
            print("GET", key, key in self._held, file=sys.stderr)
            return self._held.get(key, bytes(128))  # of another rank: NCCL's identifier

        def multi_get(self, keys: list[str]) -> list[bytes]:
            return [self.get(key) for key in keys]

        def add(self, key: str, number: int) -> int:
            self._held[key] = str(int(self._held.get(key, b"0")) + number).encode()
            return int(self._held[key])

        def compare_set(self, key: str, expected: str, desired: str) -> bytes:
            if self._held.get(key, b"") == expected.encode():
                self._held[key] = desired.encode()
            return self._held.get(key, expected.encode())

        def delete_key(self, key: str) -> bool:
            return self._held.pop(key, None) is not None

        def check(self, keys: list[str]) -> bool:
            return all(key in self._held for key in keys)

        def wait(self, *_: object) -> None: ...

        def set_timeout(self, timeout: datetime.timedelta) -> None:
            hold_works(timeout)

        def num_keys(self) -> int:
            return len(self._held)

        def clone(self) -> "RankStore":
            return self

    return RankStore


def _host_group(c10d: Any) -> type:
    """Return what stands in for gloo: it leaves this rank's values, and copies them for others."""

    class HostGroup:
        def __new__(cls, store: object, rank: int, size: int, *_: object, **__: object) -> Any:
            from torch._C._distributed_c10d import FakeProcessGroup

            make = getattr(FakeProcessGroup, "_create_internal", FakeProcessGroup)
            return make(rank, size)

    return HostGroup


@contextlib.contextmanager
def _agreement() -> Iterator[None]:
    """Have gathered values that are known be this rank's in every place (``stub/values.cpp``)."""
    values = ctypes.CDLL(os.environ[LIBRARY_VARIABLE])
    values.harness_ranks_agree(1)
    try:
        yield
    finally:
        values.harness_ranks_agree(0)


def _agreeing(real: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(real)
    def agreeing(*arguments: Any, **named: Any) -> Any:
        with _agreement():
            return real(*arguments, **named)

    return agreeing


class _Objects:
    """Python objects that ranks send each other: the other ranks send what this one sends."""

    ANSWERED = (
        "all_gather_object",
        "gather_object",
        "broadcast_object_list",
        "scatter_object_list",
        "recv_object_list",
    )

    def __init__(self, c10d: Any, note: Callable[[str], None]) -> None:
        self._c10d = c10d
        self._note = note
        self._gather_all = _agreeing(c10d.all_gather_object)
        self._gather = _agreeing(c10d.gather_object)
        self._broadcast = c10d.broadcast_object_list

    def all_gather_object(self, objects: list[Any], value: Any, group: Any = None) -> None:
        self._note("all_gather_object: the other ranks were taken to send what this rank sent")
        self._gather_all(objects, value, group)

    def gather_object(self, *arguments: Any, **named: Any) -> None:
        self._note("gather_object: the other ranks were taken to send what this rank sent")
        self._gather(*arguments, **named)

    def broadcast_object_list(
        self, objects: list[Any], src: int | None = None, group: Any = None, *rest: Any, **named: Any
    ) -> None:
        if self._is_source(src, group, named.get("group_src")):
            self._broadcast(objects, src, group, *rest, **named)
        else:
            self._note("broadcast_object_list: this rank kept its own objects")

    def scatter_object_list(
        self,
        output: list[Any],
        objects: list[Any] | None = None,
        src: int | None = None,
        group: Any = None,
        group_src: int | None = None,
    ) -> None:
        if objects is not None and self._is_source(src, group, group_src):
            output[0] = objects[self._c10d.get_rank(group)]
        else:
            self._note("scatter_object_list: this rank kept its own object")

    def recv_object_list(self, *_: object, **__: object) -> None:
        raise RuntimeError("harness dry-run: recv_object_list: the rank that sends does not run")

    def _is_source(self, src: int | None, group: Any, group_src: int | None) -> bool:
        if group_src is not None:
            return bool(self._c10d.get_rank(group) == group_src)
        return bool(self._c10d.get_rank() == (src or 0))


def _count_split_ranks(c10d: Any) -> None:
    """Tell NCCL how many ranks a split has, which it would learn from them."""
    group = getattr(c10d, "ProcessGroupNCCL2", None)
    if group is None:
        return
    real = group.split

    def split(self: Any, store: Any, ranks: list[int], options: Any) -> Any:
        ctypes.CDLL(None).pretend_split(len(ranks))
        return real(self, store, ranks, options)

    group.split = split
