"""Requests and releases for PyTorch's own allocator on pretended GPUs: plain data, no torch.

The allocator replays a recording under other settings, on other GPUs, and with the driver's
addresses in ascending and in descending order. The order decides between equal free blocks.
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
"""Kinds of operations; a release that another stream delays takes two operations."""

_FUNCTION = "harness.dry_runs.allocator_replay:answer"


class Operation(NamedTuple):
    """One step of the work; a block is named by any number, and pool 0 is the default pool."""

    action: int
    block: int
    size_bytes: int
    stream: int
    pool: int
    position: int
    """Position in the recording."""


class AllocatorRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the work with number ``work``; without ``memory_bytes`` no request fails."""

    settings: str = ""
    memory_bytes: int | None = None
    work: int = 0


class AllocatorRuns(msgspec.Struct, frozen=True, kw_only=True):
    """Encoded works, and the runs that use them."""

    works: tuple[bytes, ...]
    runs: tuple[AllocatorRun, ...]


class RanOut(msgspec.Struct, frozen=True, kw_only=True):
    """The request that failed, and the allocator's counters at that moment."""

    position: int
    requested_bytes: int
    allocated_bytes: int
    reserved_bytes: int


class AllocatorPeaks(msgspec.Struct, frozen=True, kw_only=True):
    """PyTorch's counters at the end of a run, or the place where it ran out of memory."""

    allocated_bytes: int
    reserved_bytes: int
    retries: int
    ran_out: RanOut | None = None


class RunInOrders(msgspec.Struct, frozen=True, kw_only=True):
    """The peaks of a run in each order of addresses; ``refused`` says why PyTorch refused it."""

    peaks: tuple[AllocatorPeaks, ...] = ()
    refused: str | None = None


class _Answer(msgspec.Struct, frozen=True):
    runs: tuple[RunInOrders, ...]


def encoded(work: Iterable[Operation]) -> bytes:
    """Return the work as bytes, with six numbers for each operation."""
    numbers = array("q")
    for operation in work:
        numbers.extend(operation)
    return zlib.compress(numbers.tobytes(), 1)


def decoded(data: bytes) -> list[Operation]:
    """Return the work that was encoded."""
    numbers = array("q")
    numbers.frombytes(zlib.decompress(data))
    return [*map(Operation._make, zip(*[iter(numbers)] * len(Operation._fields), strict=True))]


def run_in_pytorch(
    works: Sequence[Iterable[Operation]],
    runs: Sequence[AllocatorRun],
    seconds: float,
    option: str,
) -> tuple[RunInOrders, ...]:
    """Return the peaks of each run in PyTorch's allocator.

    Args:
        works: the requests and releases that the runs refer to.
        runs: the settings, the GPU's memory and the work of each run.
        seconds: time limit for all runs together.
        option: name of the option that sets the settings, for error messages.

    Raises:
        TimeoutError: the runs took longer.
        UnavailableError: no GPU can be pretended here, e.g. without a CUDA build of PyTorch.

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
