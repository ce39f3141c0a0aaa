"""The bytes of a recording, unpacked if it is compressed, within stated limits."""

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
"""Largest size of a recording after decompression."""

# Recordings of training loops compress 6 to 30 times; deflate reaches 1,032 times for zeros.
_RATIO = 100
_UNPACKED_IN_ADVANCE = 16 << 20
_CHUNK = 1 << 20


class SnapshotError(HarnessError, ValueError):
    """A file that is not a memory snapshot, or that contains more than data."""


def is_snapshot(path: Path) -> bool:
    """Return whether a file begins like a pickle or a gzip file, and not like text.

    A pickle's second byte is its protocol. Text in an old encoding may begin with a pickle's first
    byte.
    """
    try:
        with path.open("rb") as file:
            first = file.read(2)
            return first[:1] == b"\x1f" or (first[:1] == b"\x80" and first[1:] < b"\x20")
    except OSError as error:
        raise SnapshotError(f"cannot read the file: {error.strerror or error}") from None


def read_bytes(path: Path) -> bytearray:
    """Return the content of ``path``; a gzip file is unpacked."""
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
    """A deadline in seconds from now, which long work checks now and then."""

    def __init__(self, seconds: float = DEFAULT_SECONDS) -> None:
        self.seconds = seconds
        self._end = time.process_time() + seconds

    @property
    def left_seconds(self) -> float:
        """The seconds that are left."""
        return self._end - time.process_time()

    def check(self, doing: str) -> None:
        """Refuse to go on once the time is over."""
        if self.left_seconds < 0:
            raise self.over(doing)

    def over(self, doing: str) -> SnapshotError:
        """Return the error that names the work which took too long."""
        return SnapshotError(
            f"{doing} takes longer than {self.seconds:g} s; allow more with --deadline"
        )


@contextmanager
def reading_a_recording(path: Path, doing: str) -> Iterator[None]:
    """Pause the collection of garbage; say in one line if a recording needs too much memory."""
    try:
        with collection_paused():
            yield
    except MemoryError:
        size = format_bytes(path.stat().st_size)
        raise SnapshotError(f"not enough memory to {doing} a recording of {size}") from None
