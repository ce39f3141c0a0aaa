"""Makes the folders of dry runs, and removes them when a run has ended."""

import contextlib
import fcntl
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.dry_runs.file_layer import LAYERS, disks, remove
from harness.dry_runs.toolchain import DryRunUnavailableError

_PREFIX = "harness-dry-run-"
_OWNER = "owner"
"""File that is locked while the dry run's process lives, even if others cannot see the process."""


@contextlib.contextmanager
def room_for_files() -> Iterator[None]:
    """Raise a one-line error if the folder for temporary files is full or missing."""
    try:
        yield
    except OSError as error:
        raise DryRunUnavailableError(
            f"a dry run needs a folder for temporary files: {error.strerror or error}; set TMPDIR"
        ) from error


@contextlib.contextmanager
def run_folder() -> Iterator[Path]:
    """Make a folder for the files that a dry run's processes exchange; remove it at the end."""
    with room_for_files():
        sweep()
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    with contextlib.ExitStack() as owned:
        for place in dict.fromkeys((folder, *_places(folder))):
            place.mkdir(mode=0o700, exist_ok=True)
            owned.callback(remove, place)
            owner = owned.enter_context((place / "new").open("w"))
            fcntl.flock(owner, fcntl.LOCK_EX)
            (place / "new").rename(place / _OWNER)
        yield folder


def layer_folders(folder: Path) -> tuple[Path, ...]:
    """Return the layer folders of the run with this folder."""
    return tuple(place / LAYERS for place in _places(folder))


def _places(folder: Path) -> tuple[Path, ...]:
    """Return the folder of a run on each disk, by one name."""
    return tuple(disk / folder.name for disk in disks())


def sweep() -> None:
    """Remove processes and folders of dry runs that ended without cleaning up."""
    for folder in [one for disk in disks() for one in disk.glob(f"{_PREFIX}*")]:
        with contextlib.suppress(OSError):
            if folder.stat().st_uid != os.geteuid() or folder.is_symlink():
                continue
            with (folder / _OWNER).open() as owner:
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
                end_processes_of(folder)
                remove(folder)


def end_processes_of(folder: Path) -> None:
    """End the processes that have a dry run's folder in their mounts or environment."""
    name = os.fsencode(folder.name) + b"/"
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            seen = (process / "environ").read_bytes() + (process / "mountinfo").read_bytes()
            if name in seen and int(process.name) != os.getpid():
                os.kill(int(process.name), signal.SIGKILL)
