"""The folder that the built stub is kept in: nobody else can write there, and damage is noticed.

The stub is loaded into every process of a dry run, so who can change it can run code as this user.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from harness.dry_run.toolchain import DryRunUnavailableError
from harness.schema.user_cache import NAME, cache_folders, is_own, temporary_cache_folder

LOCK_SECONDS = 600.0
"""How long to wait for another process that builds; each of its compilers has its own limit."""

_MANIFEST = "built.json"
_BUILDING = ".building-"
_ABANDONED_SECONDS = 3600.0
_UNSAFE = re.compile(r"[\s:;$]")
"""What the dynamic linker takes for the end of a path, or for a variable (ld.so(8))."""


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder of the cache as ``make`` fills it, at a path that can be preloaded."""
    tried: list[str] = []
    with _reasons(tried):
        for cache in cache_folders():
            with _reasons(tried):
                return _preloadable(_kept_in(cache / "dry-run", name, make))
    raise DryRunUnavailableError(
        f"no folder for the stub of the dry run: {'; '.join(tried)}; set XDG_CACHE_HOME to a folder"
        " that you can write to and execute from"
    )


def writable_folder(name: str) -> Path:
    """Return a folder of the cache that this process can write to, and no other user."""
    tried: list[str] = []
    for cache in cache_folders():
        with _reasons(tried):
            folder = cache / "dry-run" / name
            _make_private(folder)
            if os.access(folder, os.W_OK | os.X_OK):
                return folder
            tried.append(f"{folder}: it cannot be written to")
    raise DryRunUnavailableError(f"no folder for what is compiled: {'; '.join(tried)}")


@contextlib.contextmanager
def _reasons(tried: list[str]) -> Iterator[None]:
    """Note why a folder cannot be used."""
    try:
        yield
    except OSError as error:
        tried.append(f"{error.filename or ''}: {error.strerror or error}")


def _kept_in(folder: Path, name: str, make: Callable[[Path], None]) -> Path:
    made = folder / name
    _make_private(made)
    if os.statvfs(made).f_flag & os.ST_NOEXEC:
        raise OSError(0, "nothing can be executed from there (noexec)", str(made))
    if _is_whole(made):
        return made
    try:
        with FileLock(f"{made}.lock", timeout=LOCK_SECONDS):
            if not _is_whole(made):
                _fill(made, make)
    except Timeout:
        raise DryRunUnavailableError(
            f"another process has been building the stub for {LOCK_SECONDS:g} seconds: end it, or"
            f" remove {made}.lock"
        ) from None
    return made


def _make_private(folder: Path) -> None:
    """Create the folder and those above it, and refuse one that others can write to.

    Only folders that this package names are its own: the mode of no other is changed.
    """
    chain = (folder, *folder.parents)
    ours = [place for place, one in enumerate(chain) if one.name.startswith(NAME)]
    own = chain[: ours[0] + 1][::-1] if ours else (folder,)
    own[0].parent.mkdir(parents=True, exist_ok=True)
    for one in own:
        one.mkdir(mode=0o700, exist_ok=True)
        facts = one.stat()
        if facts.st_uid not in (os.geteuid(), 0):
            raise _unsafe(one, f"belongs to user {facts.st_uid}")
        if stat.S_IMODE(facts.st_mode) & 0o022:
            if facts.st_uid != os.geteuid():
                raise _unsafe(one, "can be written to by others")
            one.chmod(0o700)
    for outer in own[0].resolve().parents:
        mode = outer.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise _unsafe(outer, "can be written to by everybody")


def _unsafe(path: Path, why: str) -> DryRunUnavailableError:
    return DryRunUnavailableError(
        f"{path} {why}, who could put code there that you would run; set XDG_CACHE_HOME to a folder"
        " of your own"
    )


def _is_whole(folder: Path) -> bool:
    """Return whether each file is what was built, and nobody else can write to it."""
    try:
        expected: dict[str, str] = json.loads((folder / _MANIFEST).read_text())
        files = {folder / name: digest for name, digest in expected.items()}
        return (
            bool(files)
            and all(map(is_own, (folder / _MANIFEST, *files)))
            and all(_digest(file) == digest for file, digest in files.items())
        )
    except (OSError, ValueError, AttributeError):
        return False


def _digest(file: Path) -> str:
    data = file.read_bytes()
    return f"{len(data)} {hashlib.sha256(data).hexdigest()}"


def _fill(folder: Path, make: Callable[[Path], None]) -> None:
    """Build next to the folder, then put file after file in its place; the manifest is the last."""
    mine = f"{_BUILDING}{folder.name}-"
    for left in folder.parent.glob(f"{_BUILDING}*"):  # of builds that were killed
        if left.name.startswith(mine) or time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=mine, dir=folder.parent))
    try:
        make(made)
        files = sorted(made.iterdir())
        digests = {file.name: _digest(file) for file in files}
        manifest = made / _MANIFEST
        manifest.write_text(json.dumps(digests))
        for file in (*files, manifest):
            if not file.is_symlink():
                file.chmod(0o600)
            _replace(file, folder / file.name)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _replace(file: Path, place: Path) -> None:
    """Move a file to where anything may be: a process that loaded the old one keeps it."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    file.replace(place)


def _preloadable(folder: Path) -> Path:
    """Return a path to the folder that the dynamic linker reads as one: a link where it is none."""
    if not _UNSAFE.search(str(folder)):
        return folder
    for below in (tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"):
        links = temporary_cache_folder(below)
        if _UNSAFE.search(below) or not os.access(below, os.W_OK):
            continue
        link = links / "links" / hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
        _make_private(link.parent)
        if not link.is_symlink() or link.readlink() != folder:
            new = link.with_name(f"{link.name}.{os.getpid()}")
            new.symlink_to(folder)
            new.replace(link)
        return link
    raise DryRunUnavailableError(
        f"the stub cannot be loaded from {folder}, whose path holds a blank, ':', ';' or '$': set"
        " XDG_CACHE_HOME to another folder"
    )
