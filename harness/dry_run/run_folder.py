"""The folder of one dry run, in the folder for temporary files; earlier ones that were left go."""

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "harness-dry-run-"
_OWNER = "owner"


@contextlib.contextmanager
def run_folder() -> Iterator[Path]:
    """Make a folder for what the processes of a dry run exchange, and remove it at the end."""
    sweep()
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        (folder / _OWNER).write_text(f"{os.getpid()} {_started(os.getpid())}")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep() -> None:
    """End and remove what is left of dry runs whose process has gone without cleaning up."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError, ValueError):
            if folder.stat().st_uid != os.geteuid() or folder.is_symlink():
                continue
            pid, started = (folder / _OWNER).read_text().split()
            if _started(int(pid)) != started:
                end_processes_of(folder)
                shutil.rmtree(folder, ignore_errors=True)


def end_processes_of(folder: Path) -> None:
    """End the processes that a dry run has started: its folder is in their environment."""
    wanted = b"\0HARNESS_DRY_RUN_STATUS=" + os.fsencode(folder) + b"/"
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if wanted in b"\0" + environment.read_bytes():
                os.kill(int(environment.parent.name), signal.SIGKILL)


def _started(pid: int) -> str:
    """Return when a process was started, in the kernel's ticks; "gone" if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return "gone"
