"""Parses the values with which the user replaces unknown GPU values (``--answer``)."""

import math
from collections.abc import Mapping
from typing import Final, Literal

from harness.schema.errors import HarnessError

Answer = float | Literal["all", "none"]
"""A number, or the share of elements that a mask keeps: ``all``, ``none`` or a fraction below 1."""

EVERYWHERE = "*"
_SHARES: Final = {"all": 1.0, "none": 0.0}
_RULE = "must be [FILE:LINE=]ANSWER, where ANSWER is a number, all or none"


class DryRunError(HarnessError, ValueError):
    """Raised if a dry run cannot start with the given arguments.

    >>> import harness
    >>> harness.dry_run("no_such_file.py", gpu="l4")
    Traceback (most recent call last):
        ...
    harness.dry_runs.value_answers.DryRunError: there is no script no_such_file.py
    """


def parse_answer(text: str) -> tuple[str, Answer]:
    """Parse ``FILE:LINE=ANSWER``; an answer without ``FILE:LINE`` applies to all places."""
    place, _, answer = text.rpartition("=")
    place = place or EVERYWHERE
    try:
        return place, answer if answer in _SHARES else float(answer)  # type: ignore[return-value]
    except ValueError:
        raise DryRunError(f"answer {_RULE}, got {text!r}") from None


def check_answers(answers: Mapping[str, Answer]) -> None:
    """Raise DryRunError if an answer is invalid or is for a code location without line number."""
    for place, answer in answers.items():
        line = place.rpartition(":")[2]
        if place != EVERYWHERE and not line.isdecimal():
            raise DryRunError(f"answer {_RULE}, got the place {place!r}")
        number = 0.0 if answer in _SHARES else answer
        if not isinstance(number, int | float) or not math.isfinite(number):
            raise DryRunError(f"answer {_RULE}, got {answer!r}")


def answer_at(answers: Mapping[str, Answer], file: str, line: int) -> Answer | None:
    """Return the user's answer for a line; None without an answer."""
    for given, answer in answers.items():
        name, _, number = given.rpartition(":")
        if number == str(line) and (file == name or file.endswith("/" + name)):
            return answer
    return None


def as_value(answer: Answer) -> float:
    """Return the answer as a number; ``all`` is 1 and ``none`` is 0."""
    return _SHARES[answer] if isinstance(answer, str) else answer


def as_size(answer: Answer, most: int) -> int | None:
    """Return the answer as a size of at most ``most``; None if it is not a size.

    A number below 1 is a fraction of ``most``; ``most`` is -1 if no upper bound is known.

    >>> as_size("all", 10), as_size(0.25, 10), as_size(3.0, 10), as_size("all", -1)
    (10, 3, 3, None)
    """
    share = as_value(answer)
    if share < 0:
        return None
    if isinstance(answer, str) or share < 1:
        return 0 if share == 0 else None if most < 0 else math.ceil(share * most)
    return int(answer) if most < 0 else min(int(answer), most)
