"""Messages of other programs, and of PyTorch without numbers: ``other_messages.toml``."""

import functools
import re
import tomllib
from pathlib import Path
from typing import NamedTuple


class OtherMessage(NamedTuple):
    """The cause that a message names, empty if it names none, and what to change."""

    cause: str
    advice: str


def other_message(line: str) -> OtherMessage | None:
    """Return what is known of the message in a line; None where there is none.

    >>> other_message("CUDA error: out of memory").cause
    'CUDA itself'
    """
    for pattern, cause, advice in _table():
        if match := pattern.search(line):
            return OtherMessage(cause, advice.format(**match.groupdict()))
    return None


@functools.cache
def _table() -> tuple[tuple[re.Pattern[str], str, str], ...]:
    text = Path(__file__).with_suffix(".toml").read_text("utf-8")
    return tuple(
        (re.compile(one["pattern"], re.IGNORECASE), one["cause"], one["advice"])
        for one in tomllib.loads(text)["message"]
    )
