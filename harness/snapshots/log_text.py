"""The end of a log of any size as plain text: encodings, colours and records of JSON undone."""

import errno
import json
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness.schema.units import format_bytes

LONGEST_BYTES = 64 << 20
"""The most that is read of a log: its end, where the failure is."""
MOST_PIPED_BYTES = 4 << 30
"""The most that is waited for where nobody knows an end."""

_CHUNK = 1 << 20
_ESCAPES = re.compile(r"\x1b\[[0-9;:?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-_]")
_UTF16 = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


@dataclass(frozen=True, kw_only=True)
class Log:
    """The text of a log, one line of the program's output a line."""

    text: str
    left_out_bytes: int = 0
    """How much of the beginning was not read."""


def read_log(file: IO[bytes], size: int | None = None) -> Log:
    """Return the end of ``file``, which is searched if its size is known."""
    head, left_out, data = b"", 0, bytearray()
    if size is not None and size > LONGEST_BYTES:
        head = file.read(2)
        left_out = _even(size - LONGEST_BYTES)
        file.seek(left_out)
    while chunk := file.read(_CHUNK):
        head = head or chunk[:2]
        data += chunk
        if len(data) >= 2 * LONGEST_BYTES:
            left_out += _cut(data)
        if size is None and left_out > MOST_PIPED_BYTES:
            why = f"no end after {format_bytes(left_out)}; give its end, e.g. tail -c 64M"
            raise OSError(errno.EFBIG, why)
    left_out += _cut(data)
    return Log(text=plain_text(bytes(data), head), left_out_bytes=left_out)


def _cut(data: bytearray) -> int:
    """Leave the end of the data; return how many bytes went."""
    surplus = max(_even(len(data) - LONGEST_BYTES), 0)
    del data[:surplus]
    return surplus


def _even(size: int) -> int:
    return size & ~1  # UTF-16 has two bytes a letter


def read_log_file(path: Path) -> Log:
    """Return the end of the log at ``path``."""
    with path.open("rb") as file:
        facts = os.fstat(file.fileno())
        if stat.S_ISCHR(facts.st_mode) and not file.isatty():
            raise OSError(errno.EINVAL, "it is a device, which may have no end", str(path))
        return read_log(file, facts.st_size or None)


def plain_text(data: bytes, head: bytes = b"") -> str:
    """Return ``data`` as text without escape sequences; a carriage return ends a line."""
    encoding = _UTF16.get(head or data[:2], "")
    if not encoding and data[:4000].count(0) > len(data[:4000]) // 4:  # no mark, and Latin letters
        encoding = "utf-16-le" if data[1:2] == b"\0" else "utf-16-be"
    text = data.decode(encoding or "utf-8", "replace").removeprefix("\ufeff").replace("\0", "")
    return _ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def record_text(line: str) -> str:
    """Return the text in a line: where it is a record of JSON, all of its texts, a line each."""
    start = line.find("{")
    if start >= 0 and line.rstrip().endswith("}"):
        try:
            return "\n".join(_texts(json.loads(line[start:])))
        except (ValueError, RecursionError):
            pass
    return line.replace("\\n", "\n") if "\\n" in line else line


def _texts(value: object) -> list[str]:
    """Return the texts of a record; single words, such as its level, are none."""
    if isinstance(value, str):
        return [value.rstrip("\n")] if re.search(r"\s", value) else []
    if isinstance(value, list):
        return [text for each in value for text in _texts(each)]
    if isinstance(value, dict):
        return [text for each in value.values() for text in _texts(each)]
    return []
