"""Recognizes messages without PyTorch's memory numbers, which ``other_messages.toml`` lists."""

import functools
import re
import tomllib
from pathlib import Path
from typing import NamedTuple


class OtherMessage(NamedTuple):
    """Content of an out-of-memory message: its cause (or ""), advice, and the requested bytes."""

    cause: str
    advice: str
    requested_bytes: int | None = None


def other_message(line: str) -> OtherMessage | None:
    """Return the content of a known message in ``line``; None if the line has no such message.

    >>> other_message("CUDA error: out of memory").cause
    'CUDA itself'
    """
    for pattern, cause, advice in _table():
        if match := pattern.search(line):
            groups = match.groupdict()
            size = groups.get("size") or groups.get("size2")
            return OtherMessage(cause, advice.format(**groups), _bytes(size) if size else None)
    return None


def _bytes(text: str) -> int:
    """Parse a size such as ``1.5 GB``; a number without a unit is in bytes."""
    number, unit = _SIZE.fullmatch(text).groups()  # type: ignore[union-attr]
    return int(float(number) * _UNITS[unit.lower()])


_SIZE = re.compile(r"([\d.]*\d)\.? ?([a-z]*)", re.IGNORECASE)
_UNITS = {"": 1, "b": 1, "bytes": 1}
_UNITS |= {f"{letter}ib": 1 << 10 * power for power, letter in enumerate("kmgt", 1)}
_UNITS |= {f"{letter}b": 1000**power for power, letter in enumerate("kmgt", 1)}


@functools.cache
def _table() -> tuple[tuple[re.Pattern[str], str, str], ...]:
    text = Path(__file__).with_suffix(".toml").read_text("utf-8")
    return tuple(
        (re.compile(one["pattern"], re.IGNORECASE), one["cause"], one["advice"])
        for one in tomllib.loads(text)["message"]
    )
