"""The folder of one dry run, in the folder for temporary files; earlier ones that were left go."""

import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "harness-dry-run-"
_OWNER = "owner"
"""A file that is locked as long as the dry run's process lives, whoever can see that process."""


@contextlib.contextmanager
def run_folder() -> Iterator[Path]:
    """Make a folder for what the processes of a dry run exchange, and remove it at the end."""
    sweep()
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        with (folder / "new").open("w") as owner:
            fcntl.flock(owner, fcntl.LOCK_EX)
            (folder / "new").rename(folder / _OWNER)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep() -> None:
    """End and remove what is left of dry runs whose process has gone without cleaning up."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid != os.geteuid() or folder.is_symlink():
                continue
            with (folder / _OWNER).open() as owner:
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
                end_processes_of(folder)
                shutil.rmtree(folder, ignore_errors=True)


def end_processes_of(folder: Path) -> None:
    """End the processes that a dry run has started: its folder is in their environment."""
    wanted = b"\0HARNESS_DRY_RUN_STATUS=" + os.fsencode(folder) + b"/"
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if wanted in b"\0" + environment.read_bytes():
                os.kill(int(environment.parent.name), signal.SIGKILL)
