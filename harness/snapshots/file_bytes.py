"""Reads the file of a recording, and enforces limits on its size and on the time."""

import gzip
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.prediction.interpreter_state import collection_paused
from harness.schema.errors import HarnessError
from harness.schema.units import format_bytes

LONGEST_BYTES = 1 << 30
"""Largest size of a recording after decompression, in bytes."""

# Recordings of training loops compress 6 to 30 times; deflate reaches 1,032 times for zeros.
_RATIO = 100
_UNPACKED_IN_ADVANCE = 16 << 20
_CHUNK = 1 << 20


class SnapshotError(HarnessError, ValueError):
    """Raised for a file that is not a memory snapshot, or that cannot be read or explained."""


def begins_like_snapshot(first: bytes) -> bool:
    """Return whether a file that begins with these two bytes is a pickle or a gzip file."""
    return first[:1] == b"\x1f" or (first[:1] == b"\x80" and first[1:2] < b"\x20")


def is_snapshot(path: Path) -> bool:
    """Return whether a file begins like a pickle or a gzip file, and not like text.

    The second byte is checked, too, because text in an old encoding may begin with the first byte
    of a pickle.
    """
    try:
        if path.is_fifo():  # a pipe can be read once
            return False
        with path.open("rb") as file:
            return begins_like_snapshot(file.read(2))
    except OSError as error:
        raise SnapshotError(f"cannot read the file: {error.strerror or error}") from None


def read_bytes(path: Path) -> bytearray:
    """Return the content of the file at ``path``; a gzip file is decompressed."""
    data = bytearray()
    try:
        with path.open("rb") as file:
            is_packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            source = gzip.GzipFile(fileobj=file) if is_packed else file
            while chunk := source.read(_CHUNK):
                data += chunk
                if is_packed and len(data) > _UNPACKED_IN_ADVANCE + _RATIO * file.tell():
                    raise SnapshotError(
                        f"the compressed file unpacks to more than {_RATIO} times its size"
                    )
                if len(data) > LONGEST_BYTES:
                    limit = format_bytes(LONGEST_BYTES)
                    raise SnapshotError(
                        f"the recording is longer than {limit}; record fewer events (max_entries)"
                    )
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise SnapshotError("the compressed file is truncated or damaged") from None
    except OSError as error:
        raise SnapshotError(f"cannot read the file: {error.strerror or error}") from None
    return data


DEFAULT_SECONDS = 60.0
EVENTS_BETWEEN_CHECKS = 2048


class Deadline:
    """A deadline in seconds of CPU time, which long computations check regularly."""

    def __init__(self, seconds: float = DEFAULT_SECONDS) -> None:
        self.seconds = seconds
        self._end = time.process_time() + seconds

    @property
    def left_seconds(self) -> float:
        """Seconds until the deadline; negative after the deadline."""
        return self._end - time.process_time()

    def check(self, doing: str) -> None:
        """Raise an error if the deadline has passed."""
        if self.left_seconds < 0:
            raise self.over(doing)

    def over(self, doing: str) -> SnapshotError:
        """Return the error for an activity that took too long; ``doing`` names the activity."""
        return SnapshotError(
            f"{doing} takes longer than {self.seconds:g} s; allow more with --deadline"
        )


@contextmanager
def reading_a_recording(path: Path, doing: str) -> Iterator[None]:
    """Pause garbage collection in a ``with`` block; turn a MemoryError into a ``SnapshotError``."""
    try:
        with collection_paused():
            yield
    except MemoryError:
        size = format_bytes(path.stat().st_size)
        raise SnapshotError(f"not enough memory to {doing} a recording of {size}") from None
