"""Builds the host part of the report from memory samples and PyTorch's counts."""

from pathlib import Path

import msgspec
import psutil

from harness.dry_runs.child_result import ChildResult
from harness.dry_runs.host_memory import SAMPLES, Samples
from harness.dry_runs.pretended_gpu import PretendedGpu
from harness.instruments.host_pages import MAIN, shared_memory
from harness.processes.limits.machine_memory import limit_bytes
from harness.schema.host import ONE_POOL, Host, HostProcess
from harness.schema.memory_fit import fit_of

_MOST_PROCESSES = 12


def host_of(
    folder: Path,
    inside: ChildResult,
    held_bytes: int,
    gpu: PretendedGpu,
    given_bytes: int | None,
) -> Host | None:
    """Return the script's host memory, and whether this memory fits; None without samples.

    ``given_bytes`` is the user's limit and replaces a container's limit. ``held_bytes`` is the
    memory used on the GPUs; it counts as host memory if the GPUs share the host's memory.
    """
    try:
        seen = msgspec.json.decode((folder / SAMPLES).read_bytes(), type=Samples)
    except (OSError, msgspec.MsgspecError):
        return None
    if not seen.processes:
        return None
    limit, source = given_bytes, "given"
    if gpu.one_pool:
        limit, source = gpu.total_bytes, ONE_POOL
    elif limit is None and limit_bytes() < psutil.virtual_memory().total:
        limit, source = limit_bytes(), "limit of this container"
    own = inside.history_bytes
    least = max(0, max(seen.together_bytes, inside.at_end_bytes) - own)
    # Pinned pages are there whether or not the script wrote to them, and so are parameters.
    seen_with = max(seen.with_left_out_bytes - own, inside.with_left_out_bytes)
    left_out = min(inside.left_out_bytes, max(0, seen_with - least))
    most = least + left_out + inside.unwritten_pinned_bytes
    held = held_bytes if gpu.one_pool else 0
    outside = gpu.outside_bytes if gpu.one_pool else (0, 0)
    return Host(
        peak_bytes=(least, most),
        processes=_processes(seen, own),
        file_bytes=seen.file_bytes,
        shared_bytes=seen.shared_bytes,
        shared_limit_bytes=shared_memory()[0],
        pinned_bytes=inside.pinned_bytes,
        unwritten_pinned_bytes=inside.unwritten_pinned_bytes,
        left_out_bytes=inside.left_out_bytes,
        harness_bytes=own,
        growth=inside.host_growth,
        limit_bytes=limit,
        limit_source=None if limit is None else source,
        fit=None
        if limit is None
        else fit_of(
            in_every_case=most + held + outside[1] <= limit,
            in_some_case=least + held + outside[0] <= limit,
        ),
    )


def _processes(seen: Samples, harness_bytes: int) -> tuple[HostProcess, ...]:
    """Return the largest processes; subtract the recording's memory from the script's process."""
    processes = dict(seen.processes)
    if (main := processes.get(MAIN)) is not None:
        processes[MAIN] = msgspec.structs.replace(
            main,
            peak_bytes=max(0, main.peak_bytes - harness_bytes),
            own_bytes=max(0, main.own_bytes - harness_bytes),
        )
    return tuple(sorted(processes.values(), key=lambda one: -one.peak_bytes)[:_MOST_PROCESSES])
