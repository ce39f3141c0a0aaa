"""Reads a log of any size once, and keeps the lines around its messages about memory."""

import codecs
import errno
import json
import os
import re
import stat
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from harness.snapshots.file_bytes import begins_like_snapshot

LONGEST_BYTES = 64 << 20
"""Largest number of characters that are kept; a quarter is for the first messages."""
MOST_PIPED_BYTES = 4 << 30
"""Largest number of bytes that are read from a log of unknown size."""
AROUND = 400
"""Number of lines that are kept before and after each message."""

_CHUNK = 1 << 20
_ESCAPES = re.compile(r"\x1b\[[0-9;:?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-_]")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_HINTS = (
    "out of memory", "out_of_memory", "outofmemory", "allocator",
    "oom kill", "oom-kill", "oom_kill",
    "oomkilled", "resource_exhausted", "kv cache is needed", "no available memory", "-9", "sigkill",
    "failed to allocate", "oom when", "bus error", "shared memory", "/dev/shm", "killed by signal",
    "memoryerror", "allocate memory", "bad_alloc", "nvml_success", "alloc_failed", "enough memory",
    "memoryallocation", "on startup is less than", "more system memory", "137", "killed",
    "low on resource", "unable to allocate", "running low on memory", "exited unexpectedly",
    "stored in kv cache", "memory allocation of size", "outofdevicememory", "paging file is too",
    "error 1455]", "error 1455)", "amount of gpu memory",
    "cudnn algorithm", "an engine to execute", "failed to cuda", "resource exhausted",
)  # fmt: skip
"""Each message that the harness understands contains at least one of these texts."""


@dataclass(frozen=True, kw_only=True)
class Log:
    """Lines of a log around its messages, or the whole log.

    ``numbers`` are line numbers in the file; without numbers, ``text`` is the whole file.
    """

    text: str
    numbers: Sequence[int] = ()
    left_out_bytes: int = 0
    """Number of characters in the lines that were left out because the text became too long."""
    has_more: bool = False
    """True if reading stopped before the end."""

    def number(self, at: int) -> int:
        """For the line with index ``at`` in ``text``, return its line number in the file."""
        return self.numbers[at] if self.numbers else at + 1


@dataclass(kw_only=True)
class _Kept:
    """Collects the lines around messages while a log is read."""

    read: int = 0
    before: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=AROUND))
    after: int = 0
    first: list[tuple[int, str]] = field(default_factory=list)
    last: deque[tuple[int, str]] = field(default_factory=deque)
    sizes: list[int] = field(default_factory=lambda: [0, 0, 0])
    """Numbers of characters in the first lines, in the last lines, and in the dropped lines."""

    def take(self, text: str) -> None:
        """Keep the lines around messages in ``text``, which contains whole lines."""
        lowered = text.lower()
        lines = text.split("\n")
        begin, self.read = self.read, self.read + len(lines)
        if not self.after and not any(hint in lowered for hint in _HINTS):
            start = max(0, len(lines) - AROUND)
            self.before.extend((begin + n + 1, lines[n]) for n in range(start, len(lines)))
            return
        for number, line in enumerate(lines, begin + 1):
            short = line.lower()
            if any(hint in short for hint in _HINTS):
                while self.before:
                    self._keep(*self.before.popleft())
                self.after = AROUND + 1
            if self.after:
                self.after -= 1
                self._keep(number, line)
            else:
                self.before.append((number, line))

    def _keep(self, number: int, line: str) -> None:
        if self.sizes[0] < LONGEST_BYTES // 4:
            self.first.append((number, line))
            self.sizes[0] += len(line)
            return
        self.last.append((number, line))
        self.sizes[1] += len(line)
        while self.sizes[1] > LONGEST_BYTES * 3 // 4:
            dropped = len(self.last.popleft()[1])
            self.sizes[1] -= dropped
            self.sizes[2] += dropped

    def log(self, *, has_more: bool) -> Log:
        """Return the kept lines, split at carriage returns; each part keeps the line's number."""
        parts = [
            (number, part)
            for number, line in (*self.first, *self.last)
            for part in _ESCAPES.sub("", line.replace("\0", "").rstrip("\r")).split("\r")
        ]
        return Log(
            text="\n".join(part for _, part in parts),
            numbers=[number for number, _ in parts],
            left_out_bytes=self.sizes[2],
            has_more=has_more,
        )


def read_log(file: IO[bytes], size: int | None = None, first: bytes = b"") -> Log:
    """Read ``file`` once; if its ``size`` is unknown, read at most ``MOST_PIPED_BYTES``.

    Args:
        file: the file, which is read from where it stands.
        size: size of the file in bytes; None if it is unknown.
        first: bytes that were already read.
    """
    kept, total, rest, decoder = _Kept(), 0, "", None
    while (size is not None or total <= MOST_PIPED_BYTES) and (chunk := first or file.read(_CHUNK)):
        total, first = total + len(chunk), b""
        decoder = decoder or codecs.getincrementaldecoder(_encoding(chunk))("replace")
        whole, end, rest = (rest + decoder.decode(chunk)).rpartition("\n")
        if end:
            kept.take(whole)
        if len(rest) > _CHUNK:  # of a line without an end
            kept.take(rest)
            kept.read -= 1
            rest = ""
    kept.take(rest)
    return kept.log(has_more=size is None and total > MOST_PIPED_BYTES)


def read_log_file(path: Path) -> Log:
    """Read the log at ``path``."""
    if path.is_fifo():
        return _read_pipe(path)
    with path.open("rb") as file:
        facts = os.fstat(file.fileno())
        if stat.S_ISCHR(facts.st_mode) and not file.isatty():
            raise OSError(errno.EINVAL, "it is a device, which may have no end", str(path))
        return read_log(file, facts.st_size or None)


def _read_pipe(path: Path) -> Log:
    """Read a named pipe, or one of ``<(COMMAND)``; raise an error if nothing writes to it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, "rb", buffering=0) as pipe:  # noqa: PTH123 -- of a descriptor
        first = pipe.read(_CHUNK)  # None if a program has the pipe open, and has written nothing
        if first == b"":
            raise OSError(errno.EPIPE, "it is a pipe, and no program writes to it", str(path))
        os.set_blocking(descriptor, True)
        if begins_like_snapshot(first := first or pipe.read(_CHUNK)):
            raise OSError(errno.ESPIPE, "a pipe can be no snapshot; give the file", str(path))
        return read_log(pipe, first=first)


def _encoding(data: bytes) -> str:
    if data[:2] in _UTF16:
        return "utf-16"
    if data[:4000].count(0) > len(data[:4000]) // 4:  # no mark, and Latin letters
        return "utf-16-le" if data[1:2] == b"\0" else "utf-16-be"
    return "utf-8-sig"


def record_text(line: str) -> str:
    """Return the text of a line; for a JSON record, return each of its texts as a line."""
    start = line.find("{")
    if start >= 0 and line.rstrip().endswith("}"):
        try:
            return "\n".join(_texts(json.loads(line[start:])))
        except (ValueError, RecursionError):
            pass
    return line.replace("\\n", "\n") if "\\n" in line else line


def _texts(value: object) -> list[str]:
    """Return all texts in a JSON value, except single words such as the log level."""
    if isinstance(value, str):
        return [value.rstrip("\n")] if re.search(r"\s", value) else []
    if isinstance(value, list):
        return [text for each in value for text in _texts(each)]
    if isinstance(value, dict):
        return [text for each in value.values() for text in _texts(each)]
    return []
