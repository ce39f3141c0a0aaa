"""Runs one rank of a job without the other ranks: a stub of NCCL moves no data.

PyTorch's own process groups use the stub (``stub/cuda/nccl.c``), so the groups allocate and keep
the same blocks as on a GPU. For the store, for object collectives and for collectives on the host,
this module simulates the other ranks.
"""

import contextlib
import ctypes
import datetime
import functools
import inspect
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Final

from harness.dry_runs.trial_values import LIBRARY_VARIABLE
from harness.prediction.after_import import after_import, instead

_IDENTIFIER = bytes(128)
"""NCCL's ID; in a real run, the first rank of a group writes this ID into the store."""
_MOST_SECONDS = 0.5
_LOOK_SECONDS = 0.01
_WATCHDOG = "pt_nccl_watchdg\n"
_PART_OF_TIMEOUT = 4
_hold: Final[list[int]] = []


def variables(rank: int, world_size: int | None, gpus: int) -> dict[str, str]:
    """Return the variables that ``torchrun`` sets for a rank; none if no ranks are pretended."""
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


def pretend_ranks(notes: dict[str, None]) -> None:
    """Replace the store, Gloo and object collectives, so that this rank needs no other ranks."""
    import torch.distributed as dist
    from torch.distributed import distributed_c10d as c10d
    from torch.nn.parallel import distributed as data_parallel

    stand_ins: dict[str, Callable[..., Any]] = {
        "TCPStore": (store := _store(dist)),
        "FileStore": store,
        "ProcessGroupGloo": _HostGroup,
        "destroy_process_group": instead(c10d, "destroy_process_group")(destroy),
        "monitored_barrier": lambda *_, **__: None,
    }
    for name in ("all_gather_object", "gather_object"):
        stand_ins[name] = _agreeing(getattr(c10d, name), notes.setdefault)
    for name in ("broadcast_object_list", "recv_object_list", "scatter_object_list"):
        stand_ins[name] = _receiving(getattr(c10d, name), c10d, notes.setdefault)
    rendezvous = sys.modules["torch.distributed.rendezvous"]  # its package names a function so
    for module in (dist, c10d, rendezvous):
        vars(module).update((name, one) for name, one in stand_ins.items() if hasattr(module, name))
    _agree(c10d, data_parallel)


def _agree(c10d: Any, data_parallel: Any) -> None:
    """Make comparisons between ranks succeed, and tell the stub the size of a split group."""
    verify = "_verify_param_shape_across_processes"
    setattr(data_parallel, verify, _agreeing(getattr(data_parallel, verify)))
    after_import("torch.distributed.pipelining.schedules", _stages_agree)
    for name, method in (("ProcessGroup", "split_group"), ("ProcessGroupNCCL2", "split")):
        group = getattr(c10d, name, None)
        if hasattr(group, method):  # no method up to torch 2.8, which asks no split for its ranks
            instead(group, method)(_split)


def end_ranks() -> None:
    """Destroy the script's process groups, so that their threads end before the interpreter."""
    dist = sys.modules.get("torch.distributed")
    if dist is not None and dist.is_available() and dist.is_initialized():
        with contextlib.suppress(Exception):
            dist.destroy_process_group()


def host_collectives() -> bool:
    """Return whether the script ran collectives of host tensors."""
    return bool(_values().harness_host_collectives())


def _values() -> ctypes.CDLL:
    return ctypes.CDLL(os.environ[LIBRARY_VARIABLE])


def _store(dist: Any) -> type:
    """Return a store class for a single rank; the store never waits for other ranks."""
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
    """Creates a ``FakeProcessGroup`` instead of a Gloo group; an all-reduce keeps the input."""

    def __new__(cls, store: object, rank: int, size: int, *_: object, **__: object) -> Any:
        from torch._C._distributed_c10d import FakeProcessGroup

        del store
        group: Any = FakeProcessGroup
        group._set_sequence_number_for_group = lambda _: None  # up to torch 2.13 it fails
        if not hasattr(group, "options"):  # up to torch 2.8
            group.options = SimpleNamespace()
        return getattr(FakeProcessGroup, "_create_internal", FakeProcessGroup)(rank, size)


def _agreeing(
    real: Callable[..., Any], note: Callable[[str], None] | None = None
) -> Callable[..., Any]:
    """Wrap a function; during a call, all ranks seem to send this rank's data (``values.cpp``)."""

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
    """Assume that all pipeline stages choose this stage's metadata mode (torch 2.15)."""
    vote = "_initialize_pipeline_distributed_state"
    for kind in vars(schedules).values():
        if isinstance(kind, type) and vote in vars(kind):
            setattr(kind, vote, _agreeing(vars(kind)[vote]))


def _receiving(real: Callable[..., Any], c10d: Any, note: Callable[[str], None]) -> Any:
    """Wrap a function that receives objects; this rank keeps its own objects instead."""
    bind = inspect.signature(real).bind

    @functools.wraps(real)
    def receiving(*arguments: Any, **named: Any) -> Any:
        given = bind(*arguments, **named).arguments
        group, source = given.get("group"), given.get("group_src")
        here = c10d.get_rank() if source is None else c10d.get_rank(group)
        if real.__name__.startswith("broadcast") and here == (source or given.get("src") or 0):
            return real(*arguments, **named)
        if objects := given.get("scatter_object_input_list"):
            given["scatter_object_output_list"][0] = objects[c10d.get_rank(group)]
        else:
            note(f"{real.__name__}: this rank kept its own objects, the others are not known")
        return given.get("src")

    return receiving


def destroy(real: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Show the watchdog all collectives as complete, then destroy the process group."""
    ctypes.CDLL(None).pretend_hold_works(0)
    return real(*arguments, **named)


def _split(real: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Tell NCCL's stub how many ranks a split group has; the real NCCL asks the ranks."""
    ranks = next(one for one in (*arguments, *named.values()) if isinstance(one, list))
    ctypes.CDLL(None).pretend_split(len(ranks))
    return real(*arguments, **named)


def hold_works(timeout: datetime.timedelta) -> None:
    """Hide completed collectives from NCCL's watchdog, but only for a part of their timeout."""
    _hold.append(int(timeout.total_seconds()) // _PART_OF_TIMEOUT)
    ctypes.CDLL(None).pretend_hold_works(min(_hold, default=0))


def release_works() -> None:
    """Show completed collectives to NCCL's watchdog at the end of an optimizer step.

    In a real run, the watchdog checks collectives ten times a second. A collective's tensors stay
    alive until the first collective after a check by the watchdog. In a dry run, steps take a
    different time, so the watchdog sees completed collectives only at the end of a step.
    """
    stub = ctypes.CDLL(None)
    if not stub.pretend_exchanged() or not _is_watched():
        return
    before, until = stub.pretend_works_found(), time.monotonic() + _MOST_SECONDS
    stub.pretend_hold_works(0)
    while stub.pretend_works_found() == before and time.monotonic() < until:
        time.sleep(_LOOK_SECONDS)
    time.sleep(_LOOK_SECONDS)
    stub.pretend_hold_works(min(_hold, default=0))


def _is_watched() -> bool:
    threads = Path("/proc/self/task").glob("*/comm")
    return any(thread.read_text() == _WATCHDOG for thread in threads)
