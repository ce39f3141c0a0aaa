"""Cache folders of the user for files that take long to make; they may be deleted at any time."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

NAME = "mlp-memory-harness"
"""First part of the name of each cache folder."""


def cache_folders() -> Iterator[Path]:
    """Yield the folders to try, the usual folder first; a container may lack a usable home.

    The folders are below $XDG_CACHE_HOME (if it is absolute, XDG Base Directory Specification),
    ~/.cache and the folder for temporary files, in this order.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    if Path(given).is_absolute():
        yield Path(given) / NAME
    else:
        home = Path(os.path.expanduser("~"))  # noqa: PTH111  # Path.home() fails without a home
        if home.is_absolute():
            yield home / ".cache" / NAME
    yield temporary_cache_folder(tempfile.gettempdir())


def temporary_cache_folder(below: str) -> Path:
    """Return this user's own folder below the shared folder for temporary files."""
    return Path(below) / f"{NAME}-{os.geteuid()}"


def is_own(file: Path) -> bool:
    """Return whether only this user and the administrator can have written a file."""
    facts = file.stat()
    return facts.st_uid in (os.geteuid(), 0) and not facts.st_mode & 0o022
