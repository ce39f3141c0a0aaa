"""Creates the folders of a dry run, and removes them when the run has ended."""

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
"""File that the harness locks while it uses a folder, so that no other process removes it."""


@contextlib.contextmanager
def room_for_files() -> Iterator[None]:
    """Raise DryRunUnavailableError if the folder for temporary files is full or missing."""
    try:
        yield
    except OSError as error:
        raise DryRunUnavailableError(
            f"a dry run needs a folder for temporary files: {error.strerror or error}; set TMPDIR"
        ) from error


@contextlib.contextmanager
def run_folder() -> Iterator[Path]:
    """Create a folder for files that the processes exchange; remove the folder at the end."""
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
    """Return the layer folders of the run whose folder is ``folder``."""
    return tuple(place / LAYERS for place in _places(folder))


def _places(folder: Path) -> tuple[Path, ...]:
    """Return the run's folders on all disks; the folders have the same name."""
    return tuple(disk / folder.name for disk in disks())


def sweep() -> None:
    """End processes and remove folders of earlier dry runs that ended without cleaning up."""
    for folder in [one for disk in disks() for one in disk.glob(f"{_PREFIX}*")]:
        with contextlib.suppress(OSError):
            if folder.stat().st_uid != os.geteuid() or folder.is_symlink():
                continue
            with (folder / _OWNER).open() as owner:
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
                end_processes_of(folder)
                remove(folder)


def end_processes_of(folder: Path) -> None:
    """Kill the processes whose mounts or environment variables contain a dry run's folder."""
    name = os.fsencode(folder.name) + b"/"
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            seen = (process / "environ").read_bytes() + (process / "mountinfo").read_bytes()
            if name in seen and int(process.name) != os.getpid():
                os.kill(int(process.name), signal.SIGKILL)
