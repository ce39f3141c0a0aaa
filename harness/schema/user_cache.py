"""Cache folders of the user; the files in these folders can be deleted at any time."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

NAME = "mlp-memory-harness"
"""First part of the name of each cache folder."""


def cache_folders() -> Iterator[Path]:
    """Yield the folders that may be used as cache, the preferred folder first.

    The first folder is in $XDG_CACHE_HOME if that path is absolute, else in ~/.cache if the user
    has a home folder. The last folder is in the folder for temporary files.
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
    """Return this user's own folder inside ``below``, the shared folder for temporary files."""
    return Path(below) / f"{NAME}-{os.geteuid()}"


def is_own(file: Path) -> bool:
    """Return whether only this user or root can have written a file."""
    facts = file.stat()
    return facts.st_uid in (os.geteuid(), 0) and not facts.st_mode & 0o022
