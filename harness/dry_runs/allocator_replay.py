"""Replays allocations and frees in PyTorch's own allocator; each replay has its own process."""

import gc
import os
from functools import partial
from typing import Any

import msgspec
import torch

from harness.dry_runs.allocator_runs import (
    ALLOCATE,
    EMPTY_CACHE,
    FREE_REQUESTED,
    RELEASE_POOL,
    AllocatorPeaks,
    AllocatorRun,
    AllocatorRuns,
    Operation,
    RanOut,
    RunInOrders,
    decoded,
)
from harness.dry_runs.memory_limit import ENDLESS_BYTES, limit_memory
from harness.processes.forked_call import ForkedCall
from harness.training.module_step import Phase

_ORDERS = ("ascending", "descending")
_FIRST_STREAM, _BETWEEN_STREAMS = 0x1000, 0x100
_allocate: Any = torch._C._cuda_cudaCachingAllocator_raw_alloc
_release: Any = torch._C._cuda_cudaCachingAllocator_raw_delete


def answer(request: bytes, announce: Phase) -> dict[str, Any]:
    """Replay each run twice, with ascending and with descending addresses; return the peaks."""
    del announce
    question = msgspec.msgpack.decode(request, type=AllocatorRuns)
    gc.disable()  # it would go through all operations, again and again
    works = [decoded(work) for work in question.works]
    torch.cuda._is_in_bad_fork = lambda: False
    runs = []
    for run in question.runs:
        forks = [ForkedCall(partial(_run, run, works[run.work], order)) for order in _ORDERS]
        peaks = [fork.result() for fork in forks]
        refused = next((each for each in peaks if isinstance(each, str)), None)
        served = tuple(each for each in peaks if not isinstance(each, str))
        runs.append(RunInOrders(peaks=served, refused=refused))
    return {"runs": msgspec.to_builtins(runs)}


def _run(run: AllocatorRun, work: list[Operation], order: str) -> AllocatorPeaks | str:
    """Return the peaks of one run, or PyTorch's error message about the settings."""
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        os.environ.pop(name, None)
    os.environ["HARNESS_DRY_RUN_ADDRESSES"] = order
    limit_memory(run.memory_bytes or _endless(work))
    try:
        if run.settings:
            torch._C._accelerator_setAllocatorSettings(run.settings)
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (ValueError, RuntimeError) as error:
        return str(error).partition("\n")[0]
    allocator = _Allocator()
    ran_out = None
    for operation in work:
        try:
            allocator.do(operation)
        except torch.OutOfMemoryError:
            ran_out = RanOut(
                position=operation.position,
                requested_bytes=operation.size_bytes,
                allocated_bytes=torch.cuda.memory_allocated(),
                reserved_bytes=torch.cuda.memory_reserved(),
            )
            break
    return AllocatorPeaks(
        allocated_bytes=torch.cuda.max_memory_allocated(),
        reserved_bytes=torch.cuda.max_memory_reserved(),
        retries=torch.cuda.memory_stats().get("num_alloc_retries", 0) - allocator.second_tries,
        ran_out=ran_out,
    )


def _endless(work: list[Operation]) -> int:
    """Return a GPU memory size so large that no allocation fails.

    With expandable segments, each stream of each pool reserves addresses for twice this size, so
    the size is smaller if there are more streams and pools.
    """
    return ENDLESS_BYTES // len({(each.stream, each.pool) for each in work} or {0})


class _Allocator:
    """PyTorch's allocator; each block is identified by its number in the recording.

    If another stream still uses a freed block, the free is completed at the same position as in the
    recording. If memory runs out before a delayed free is complete, ``do`` completes all delayed
    frees and tries again, as PyTorch does.
    """

    def __init__(self) -> None:
        self._live: dict[int, int] = {}
        self._awaited: set[int] = set()
        self._pools: dict[int, torch.cuda.MemPool] = {}
        self.second_tries = 0

    def do(self, operation: Operation) -> None:
        """Perform one operation; raise OutOfMemoryError if an allocation fails."""
        action, block, size, stream, pool, _ = operation
        if action == ALLOCATE:
            handle = _FIRST_STREAM + stream * _BETWEEN_STREAMS if stream else 0
            try:
                self._live[block] = self._allocated(size, handle, pool)
            except torch.OutOfMemoryError:
                if not self._awaited:
                    raise
                for awaited in [*self._awaited]:
                    self._freed(awaited)
                torch.cuda.empty_cache()
                self.second_tries += 1
                self._live[block] = self._allocated(size, handle, pool)
        elif action == EMPTY_CACHE:
            torch.cuda.empty_cache()
        elif action == RELEASE_POOL:
            self._pools.pop(pool, None)
        elif action == FREE_REQUESTED:
            self._awaited.add(block)
        else:
            self._freed(block)

    def _allocated(self, size: int, stream: int, pool: int) -> int:
        if not pool:
            address: int = _allocate(size, stream)
            return address
        if pool not in self._pools:
            self._pools[pool] = torch.cuda.MemPool()
        with torch.cuda.use_mem_pool(self._pools[pool]):
            return self._allocated(size, stream, 0)

    def _freed(self, block: int) -> None:
        """Free a block; do nothing if it was never allocated or is already free."""
        self._awaited.discard(block)
        address = self._live.pop(block, 0)
        if address:
            _release(address)
