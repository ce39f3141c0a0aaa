"""The PSS of this process by psutil, less that of files, which changes as other programs begin."""

from pathlib import Path

import psutil


def own_pss_bytes() -> int:
    """Return the bytes, read while no other program began or ended."""
    while True:
        before = _of_files_bytes()
        size: int = psutil.Process().memory_full_info().pss
        if before == _of_files_bytes():
            return size - before


def _of_files_bytes() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss_File"))
