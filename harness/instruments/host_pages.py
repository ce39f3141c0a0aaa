"""Reads the host memory of a process from ``smaps_rollup`` (proc_pid_smaps(5)).

The size of a page that several processes share is divided among these processes. The kernel can
drop file pages, so file pages are counted separately. The kernel records a peak only for the RSS.
The pages that a step allocates are not shared, so they raise the RSS by their full size.
"""

import shutil
from contextlib import suppress
from pathlib import Path

from harness.schema.host import Host, HostProcess

MAIN = "main"


def page_sums(process: int | str = "self") -> dict[str, int]:
    """Return a dict from each line's name in a process's ``smaps_rollup`` to its size in bytes."""
    _, *lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    parts = (line.split() for line in lines)
    return {name.rstrip(":"): int(kilobytes) << 10 for name, kilobytes, _ in parts}


def shared_memory() -> tuple[int, int]:
    """Return the size of the shared memory ``/dev/shm``, and its used part, in bytes."""
    with suppress(OSError):
        return shutil.disk_usage("/dev/shm")[:2]
    return 0, 0


def host_at_peak(peak_bytes: int, pinned_bytes: tuple[int, int] | None = None) -> Host | None:
    """Return the host memory of this process; None if the kernel does not report it.

    Args:
        peak_bytes: peak of the process's RSS in a step that has ended.
        pinned_bytes: peaks of pinned bytes in use and of reserved pinned bytes; None if unknown.
    """
    try:
        sums = page_sums()
        rise = max(0, peak_bytes - sums["Rss"])
        least = sums["Pss_Anon"] + sums["Pss_Shmem"] + rise
        own = sums["Private_Dirty"]
        common = sums["Anonymous"] - sums["Pss_Anon"]
    except (OSError, KeyError):
        return None
    main = HostProcess(name=MAIN, peak_bytes=least, own_bytes=own + rise, first_own_bytes=own)
    return Host(
        peak_bytes=(least, least + common + (pinned_bytes or (0, 0))[1]),
        processes=(main,),
        file_bytes=sums["Pss_File"],
        shared_bytes=sums["Pss_Shmem"],
        shared_limit_bytes=shared_memory()[0],
        pinned_bytes=pinned_bytes,
        left_out_bytes=0,
    )
