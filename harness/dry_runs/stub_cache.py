"""Keeps the built stub in a folder that only this user can write to; detects damaged files.

Every dry run loads the stub, so a user who could change the stub could run code as this user.
"""

import hashlib
import json
import os
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from harness.dry_runs.toolchain import DryRunUnavailableError
from harness.schema.user_cache import NAME, cache_folders, is_own

QUIET_SECONDS = 10.0
"""Seconds after which a message says that another process is still building the stub."""

_MANIFEST = "built.json"
_BUILDING = ".building-"
_ABANDONED_SECONDS = 3600.0
_UNSAFE = re.compile(r"[\s:;$]")
"""Characters at which the dynamic linker splits a path or starts a variable (ld.so(8))."""


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """Return a cache folder with the files that ``make`` creates; call ``make`` if needed."""
    return _first(lambda cache: _kept_in(cache / name, make), "the stub")


def writable_folder(name: str) -> Path:
    """Return a cache folder that only this user can write to."""

    def folder(cache: Path) -> Path:
        _make_private(cache / name)
        if not os.access(cache / name, os.W_OK | os.X_OK):
            raise OSError(0, "it cannot be written to", str(cache / name))
        return cache / name

    return _first(folder, "what is compiled")


def _first(use: Callable[[Path], Path], what: str) -> Path:
    """Call ``use`` with each cache folder until a call succeeds; return the result of this call."""
    tried: list[str] = []
    try:
        for cache in cache_folders():
            try:
                return use(cache / "dry-run")
            except OSError as error:
                tried.append(_reason(error))
    except OSError as error:  # there is no folder for temporary files
        tried.append(_reason(error))
    raise DryRunUnavailableError(
        f"no folder for {what} of the dry run: {'; '.join(tried)}; set XDG_CACHE_HOME to a folder"
        " that you can write to and execute from"
    )


def _reason(error: OSError) -> str:
    return f"{error.filename or ''}: {error.strerror or error}"


def _kept_in(made: Path, make: Callable[[Path], None]) -> Path:
    if _UNSAFE.search(str(made)):
        why = "the dynamic linker splits its path at blanks, ':', ';' and '$'"
        raise OSError(0, why, str(made))
    _make_private(made)
    if os.statvfs(made).f_flag & os.ST_NOEXEC:
        raise OSError(0, "nothing can be executed from there (noexec)", str(made))
    if _is_whole(made):
        return made
    lock = FileLock(f"{made}.lock")
    try:
        lock.acquire(timeout=QUIET_SECONDS)
    except Timeout:
        print("harness: waiting for another process, which builds the stub", file=sys.stderr)
        lock.acquire()  # the kernel frees it when that process ends
    try:
        if not _is_whole(made):
            _fill(made, make)
    finally:
        lock.release()
    return made


def _make_private(folder: Path) -> None:
    """Create the folder and its parents; raise an error if other users can write to them."""
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
    """Return whether all built files are unchanged and only this user can write to them."""
    try:
        expected: dict[str, str] = json.loads((folder / _MANIFEST).read_text())
        files = {folder / name: digest for name, digest in expected.items()}
        safe = all(map(is_own, (folder / _MANIFEST, *files)))
        return bool(files) and safe and all(_digest(file) == one for file, one in files.items())
    except (OSError, ValueError, AttributeError):
        return False


def _digest(file: Path) -> str:
    data = file.read_bytes()
    return f"{len(data)} {hashlib.sha256(data).hexdigest()}"


def _fill(folder: Path, make: Callable[[Path], None]) -> None:
    """Build in a temporary folder, then replace ``folder`` with the temporary folder."""
    mine = f"{_BUILDING}{folder.name}-"
    for left in folder.parent.glob(f"{_BUILDING}*"):  # of builds that were killed
        if left.name.startswith(mine) or time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=mine, dir=folder.parent))
    try:
        make(made)
        digests = {file.name: _digest(file) for file in made.iterdir()}
        (made / _MANIFEST).write_text(json.dumps(digests))
        for file in made.iterdir():
            if not file.is_symlink():
                file.chmod(0o600)
        shutil.rmtree(folder)  # a process that loaded what was there keeps it
        made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
