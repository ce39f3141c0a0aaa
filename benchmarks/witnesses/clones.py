"""Clones of other repositories, made on the user's request and read at the pinned commit."""

import io
import subprocess
import tarfile
from pathlib import Path

from benchmarks.witnesses.rows import Source


class CloneError(Exception):
    """A clone is missing, or lacks the commit; the message has the remedy."""


def clone_of(source: Source, given: Path | None, kept: Path, *, fetch: bool) -> Path:
    """Return a clone of the source that is given, kept, or with ``fetch`` new."""
    folder = given or kept / source.repository.rsplit("/", 1)[1]
    if not folder.is_dir() and not source.cited:
        if not fetch or given:
            command = f"git clone {source.repository} {folder}"
            raise CloneError(f"no clone in {folder}; give --fetch, or: {command}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        clone = ["git", "clone", "--quiet", "--no-checkout", "--filter=blob:none"]
        subprocess.run([*clone, source.repository, folder], check=True)
        for address in source.also:
            subprocess.run(["git", "-C", folder, "fetch", "--quiet", address], check=True)
    return folder


def text_of(clone: Path, commit: str, path: str) -> str:
    """Return a file of a commit; the clone may be bare."""
    return bytes_of(clone, commit, path).decode()


def bytes_of(clone: Path, commit: str, path: str) -> bytes:
    """Return a file of a commit; the clone may be bare."""
    shown = subprocess.run(
        ["git", "-C", clone, "show", f"{commit}:{path}"], capture_output=True, check=False
    )
    if shown.returncode:
        raise CloneError(f"{clone}: {path} of {commit}: {shown.stderr.decode().strip()}")
    return shown.stdout


def extract(clone: Path, commit: str, paths: list[str], folder: str | Path) -> None:
    """Write files and folders of a commit into a folder."""
    command = ["git", "-C", str(clone), "archive", commit, *paths]
    made = subprocess.run(command, capture_output=True, check=False)
    if made.returncode:
        raise CloneError(f"{clone}: {commit}: {made.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(made.stdout)) as archive:
        archive.extractall(folder, filter="data")
