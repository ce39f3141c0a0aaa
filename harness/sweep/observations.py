"""Lines of observations that no record can hold: one JSON object a line, each on disk whole.

A torn last line, left by an interrupted writer, is cut off when the file is opened to write
and skipped when it is read. The folder's lock is the store's.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.schema.errors import HarnessError

OBSERVATIONS = "observations.jsonl"
SCHEMA = 1


class ObservationError(HarnessError):
    """A file of observations that cannot be read or written; the message names it."""


def read(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield a folder's observations, none where there is no file.

    Raises:
        ObservationError: a line but the last is no observation, or of another schema.

    """
    path = folder / OBSERVATIONS
    if not path.exists():
        return
    *lines, last = path.read_bytes().split(b"\n")
    del last  # empty, or torn
    for number, line in enumerate(lines, 1):
        try:
            found = json.loads(line)
        except ValueError as error:
            raise ObservationError(f"{path}, line {number}: {error}") from None
        if not isinstance(found, dict) or found.get("schema") != SCHEMA:
            raise ObservationError(f"{path}, line {number}: no observation of schema {SCHEMA}")
        yield found


def append(folder: Path, observation: dict[str, Any]) -> None:
    """Write one observation so that it is on disk, whole, when this returns.

    Raises:
        ObservationError: the disk did not take it all; what it took is cut off again.

    """
    path = folder / OBSERVATIONS
    text = json.dumps({"schema": SCHEMA, **observation}, separators=(",", ":"))
    line = text.encode() + b"\n"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        size = _whole_lines(path)
        os.ftruncate(descriptor, size)
        os.lseek(descriptor, size, os.SEEK_SET)
        try:
            if os.write(descriptor, line) != len(line):
                raise OSError(28, os.strerror(28))  # ENOSPC: a full disk takes what still fits
            os.fsync(descriptor)
        except OSError as error:
            os.ftruncate(descriptor, size)
            raise ObservationError(f"out: {str(path)!r}: {error.strerror}") from None
    finally:
        os.close(descriptor)


def _whole_lines(path: Path) -> int:
    """Return the bytes up to the end of the last whole line."""
    return path.read_bytes().rfind(b"\n") + 1
