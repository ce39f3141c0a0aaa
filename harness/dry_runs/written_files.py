"""Lists and copies the files that a run wrote into its file layers.

In a layer (``file_layer.py``), a device file with number 0 marks a deleted file. An attribute marks
a folder that was moved or created again (Linux's Documentation/filesystems/overlayfs.rst).
"""

import contextlib
import errno
import filecmp
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from harness.dry_runs.dry_run_report import WrittenFile
from harness.dry_runs.file_layer import COVERS, FOLDER, PRELOADED, ROOT, UPPER
from harness.schema.plain_text import utf8_name

OUTSIDE = Path("outside")
"""Folder for copies of files that are not below the script's working folder."""
_OWN = {str(FOLDER), str(PRELOADED)}


def written_files(layers: Path) -> tuple[WrittenFile, ...]:
    """Return the files that a run has changed, the largest first.

    Args:
        layers: one of the run's layer folders.
    """
    found = [_named(one) for top, upper in _uppers(layers) for one in _changes(top, upper)]
    return tuple(sorted(found, key=lambda one: (-(one.size_bytes or 0), one.path)))


def _named(one: WrittenFile) -> WrittenFile:
    former = None if one.former is None else utf8_name(one.former)
    return msgspec.structs.replace(one, path=utf8_name(one.path), former=former)


def keep(places: Sequence[Path], folder: Path, here: Path) -> None:
    """Copy a run's new and changed files to ``folder``, and write nothing through a link.

    The script may have made a link to any folder of the user, so links are made last.

    Args:
        places: all layer folders of the run.
        folder: empty folder for the copies. A file below ``here`` keeps its path relative to
            ``here``; other files keep their whole path, below the folder ``OUTSIDE``.
        here: the script's working folder.

    Raises:
        OSError: a file cannot be copied; its copy would replace another one, for example.
    """
    links: list[tuple[Path, Path]] = []
    for top, upper in (one for place in places for one in _uppers(place)):
        for one in _changes(top, upper):
            path, source = Path(one.path), upper / Path(one.path).relative_to(top)
            place = here if path.is_relative_to(here) else Path("/")
            copy = folder / (OUTSIDE if place != here else "") / path.relative_to(place)
            if one.what != "deleted" and source.is_symlink():
                links.append((source, copy))
            elif one.what != "deleted" and source.is_file():
                _copy(source, copy)
    for source, copy in links:
        _copy(source, copy)


def put_back(places: Sequence[Path], paths: Sequence[str]) -> set[str]:
    """Copy a run's files at ``paths``, or below them, to the user's place; return their paths.

    Nothing is written through a link, and no link is copied.

    Args:
        places: all layer folders of the run.
        paths: files or folders of a test runner, such as ``.coverage`` or ``.pytest_cache``.
    """
    done = set[str]()
    paths = [one for one in paths if not Path.cwd().is_relative_to(one)]  # these hold all else, too
    for top, upper in (one for place in places for one in _uppers(place)):
        for one in _changes(top, upper):
            path, source = Path(one.path), upper / Path(one.path).relative_to(top)
            is_kept = any(path.is_relative_to(own) for own in paths)
            is_plain = source.is_file() and not source.is_symlink() and not path.is_symlink()
            if is_kept and is_plain and path.parent == path.parent.resolve():
                with contextlib.suppress(OSError):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(source, path, follow_symlinks=False)
                    done.add(one.path)
    return done


def _copy(source: Path, copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(copy):
        raise FileExistsError(errno.EEXIST, "two files would have the same name", str(copy))
    shutil.copy2(source, copy, follow_symlinks=False)


def _uppers(layers: Path) -> Iterator[tuple[Path, Path]]:
    """Yield each folder that a layer covers, and the layer's folder with the written files."""
    if (layers / ROOT).is_dir():
        yield Path("/"), layers / ROOT
    for covers in sorted(layers.glob(f"*/{COVERS}")):
        yield Path(covers.read_text()), covers.with_name(UPPER)


def _changes(top: Path, upper: Path) -> Iterator[WrittenFile]:
    for place, folders, files in os.walk(upper):
        below = Path(place).relative_to(upper)
        own = {name for name in (*folders, *files) if _is_own(top / below / name, upper)}
        folders[:] = [name for name in folders if name not in own]
        for name in (*folders, *(name for name in files if name not in own)):
            if what := _changed(top / below / name, Path(place, name)):
                yield what


def _is_own(path: Path, upper: Path) -> bool:
    """Return whether the harness, and not the script, created a path in a layer."""
    return str(path) in _OWN or (upper.name == ROOT and path.parent == Path("/") and path.exists())


def _changed(path: Path, held: Path) -> WrittenFile | None:
    """Return how a path was changed, or None; changes of files below the path are ignored."""
    facts = held.lstat()
    with contextlib.suppress(OSError):
        before = path.lstat()
        if stat.S_ISCHR(facts.st_mode) and facts.st_rdev == 0:
            return WrittenFile(path=str(path), what="deleted")
        if stat.S_ISDIR(facts.st_mode) and stat.S_ISDIR(before.st_mode):
            return WrittenFile(path=str(path), what="emptied") if _is_opaque(held) else None
        if _same(path, before, held, facts):
            return None
        return WrittenFile(path=str(path), what="changed", size_bytes=facts.st_size)
    if stat.S_ISDIR(facts.st_mode):
        if (former := _attribute(held, "redirect")) is None:
            return WrittenFile(path=str(path), what="new") if not any(held.iterdir()) else None
        return WrittenFile(path=str(path), what="renamed", former=former)
    if stat.S_ISCHR(facts.st_mode) and facts.st_rdev == 0:
        return None  # of a folder that was moved
    return WrittenFile(path=str(path), what="new", size_bytes=facts.st_size)


def _same(path: Path, before: os.stat_result, held: Path, facts: os.stat_result) -> bool:
    """Return whether a file was opened for writing but did not change."""
    if stat.S_ISLNK(facts.st_mode) or stat.S_ISLNK(before.st_mode):
        both = stat.S_ISLNK(facts.st_mode) and stat.S_ISLNK(before.st_mode)
        return both and os.readlink(path) == os.readlink(held)  # noqa: PTH115
    fields = ("st_mode", "st_uid", "st_gid", "st_size", "st_mtime_ns")
    alike = all(getattr(before, one) == getattr(facts, one) for one in fields)
    if not alike or not stat.S_ISREG(facts.st_mode):
        return alike
    return filecmp.cmp(path, held, shallow=False)


def _is_opaque(folder: Path) -> bool:
    return _attribute(folder, "opaque") == "y"


def _attribute(folder: Path, name: str) -> str | None:
    """Return an overlay attribute of a folder; the name's prefix depends on the user's rights."""
    for kind in ("trusted", "user"):
        with contextlib.suppress(OSError):
            return os.getxattr(folder, f"{kind}.overlay.{name}").decode(errors="replace")
    return None
