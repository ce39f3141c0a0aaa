"""Describes and starts replays in PyTorch's own allocator on pretended GPUs.

This module does not import torch. Each replay runs twice, with ascending and with descending
addresses, because the allocator uses addresses to choose between free blocks of equal size.
"""

import zlib
from array import array
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from harness.dry_runs.pretended_gpu import refuse_unfollowed
from harness.dry_runs.step_launcher import LAUNCHER
from harness.processes.launch import LaunchError
from harness.processes.messages import Call
from harness.processes.outcome import classify
from harness.schema.errors import UnavailableError
from harness.schema.run_outcome import Outcome

ALLOCATE, FREE, FREE_REQUESTED, FREE_COMPLETED, EMPTY_CACHE, RELEASE_POOL = range(6)
"""Kinds of operations; a free that waits for a stream is requested first and completed later."""

_FUNCTION = "harness.dry_runs.allocator_replay:answer"


class Operation(NamedTuple):
    """One operation of a replay; ``block`` identifies a block, and pool 0 is the default pool."""

    action: int
    block: int
    size_bytes: int
    stream: int
    pool: int
    position: int
    """Position of the operation in the recording."""


class AllocatorRun(msgspec.Struct, frozen=True, kw_only=True):
    """A replay of ``AllocatorRuns.works[work]``; without ``memory_bytes``, no allocation fails."""

    settings: str = ""
    memory_bytes: int | None = None
    work: int = 0


class AllocatorRuns(msgspec.Struct, frozen=True, kw_only=True):
    """Encoded lists of operations, and the runs that replay them."""

    works: tuple[bytes, ...]
    runs: tuple[AllocatorRun, ...]


class RanOut(msgspec.Struct, frozen=True, kw_only=True):
    """The allocation that failed, and the allocator's counters at that moment."""

    position: int
    requested_bytes: int
    allocated_bytes: int
    reserved_bytes: int


class AllocatorPeaks(msgspec.Struct, frozen=True, kw_only=True):
    """PyTorch's counters at the end of a run; ``ran_out`` is the allocation that failed, if any."""

    allocated_bytes: int
    reserved_bytes: int
    retries: int
    ran_out: RanOut | None = None


class RunInOrders(msgspec.Struct, frozen=True, kw_only=True):
    """The peaks of a run for each order of addresses, or PyTorch's error message (``refused``)."""

    peaks: tuple[AllocatorPeaks, ...] = ()
    refused: str | None = None


class _Answer(msgspec.Struct, frozen=True):
    runs: tuple[RunInOrders, ...]


def encoded(work: Iterable[Operation]) -> bytes:
    """Return the operations as compressed bytes, with six integers for each operation."""
    numbers = array("q")
    for operation in work:
        numbers.extend(operation)
    return zlib.compress(numbers.tobytes(), 1)


def decoded(data: bytes) -> list[Operation]:
    """Return the operations that ``encoded`` turned into bytes."""
    numbers = array("q")
    numbers.frombytes(zlib.decompress(data))
    return [*map(Operation._make, zip(*[iter(numbers)] * len(Operation._fields), strict=True))]


def run_in_pytorch(
    works: Sequence[Iterable[Operation]],
    runs: Sequence[AllocatorRun],
    seconds: float,
    option: str,
) -> tuple[RunInOrders, ...]:
    """Replay each run in PyTorch's allocator, and return each run's peaks.

    Args:
        works: lists of operations to replay.
        runs: for each run, the settings, the GPU memory, and the index of a list in ``works``.
        seconds: time limit for all runs together.
        option: name of the command-line option for the settings; error messages contain this name.

    Raises:
        TimeoutError: the runs took longer than ``seconds``.
        UnavailableError: this machine cannot pretend a GPU, e.g. without a CUDA build of PyTorch.

    """
    for run in runs:
        refuse_unfollowed({}, run.settings, memory_ends=bool(run.memory_bytes), option=option)
    question = AllocatorRuns(works=tuple(map(encoded, works)), runs=tuple(runs))
    job = Call(
        function=_FUNCTION,
        request=msgspec.msgpack.encode(question),
        device="cuda",
        malloc="system",
    )
    try:
        ended = LAUNCHER.launch(job, seconds)
    except LaunchError as error:
        last = str(error).strip().rpartition("\n")[2].strip()
        raise UnavailableError(f"PyTorch's allocator cannot be asked: {last}") from error
    if ended.timed_out:
        raise TimeoutError
    outcome, evidence = classify(ended)
    if outcome is not Outcome.OK or ended.result is None:
        raise UnavailableError(f"PyTorch's allocator did not run: {evidence.get('message')}")
    return msgspec.convert(ended.result, _Answer).runs
