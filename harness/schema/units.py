"""Converts between numbers of bytes and text, such as ``268435456`` and ``"256 MiB"``.

The harness computes in whole bytes; only text for users has units.
"""

import re
from fractions import Fraction

from harness.schema.errors import HarnessError

_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4}
_FACTORS: dict[str, int] = {
    "b": 1,
    **{f"{letter}b": 1000**power for letter, power in _POWERS.items()},
    **{f"{letter}ib": 1024**power for letter, power in _POWERS.items()},
    **{letter: 1024**power for letter, power in _POWERS.items()},
}
_SIZE = re.compile(r"\s*(\d+)(?:\.(\d+))?\s*([A-Za-z]*)\s*", re.ASCII)


def parse_bytes(text: str) -> int:
    """Return the number of bytes in a text such as ``"256MiB"``.

    ``24G`` is 24 GiB, as in most tools for memory; ``24GB`` is 24 * 10**9 bytes. The result is
    rounded down to whole bytes, so that you can enter a printed size such as ``21.96 GiB``.

    >>> parse_bytes("256MiB")
    268435456
    """
    match = _SIZE.fullmatch(text)
    if match is not None and not match[3] and float(text):
        number = text.strip()
        raise ValueError(f"{text!r} has no unit; write {number}MiB or {number}GiB, or {number}B")
    factor = _FACTORS.get(match[3].lower()) if match else None
    if match is None or factor is None:
        raise ValueError(f"{text!r} is not a size; write it like 256MiB, 1.5GiB or 24G")
    fraction = match[2] or ""
    scale: int = 10 ** len(fraction)
    size = int(match[1] + fraction) * factor // scale
    if not 0 < size < 2**63:
        raise ValueError(f"{text!r} is not a number of bytes from 1 to 2^63 - 1")
    return size


def parse_share(given: object) -> Fraction:
    """Return a percentage such as ``2.5%`` as a fraction between 0 and 1.

    >>> float(parse_share("2.5%"))
    0.025
    """
    match = re.fullmatch(r"(\d{1,3}(?:\.\d+)?) ?%", given) if isinstance(given, str) else None
    share = None if match is None else Fraction(match[1]) / 100
    if share is None or share > 1:
        raise HarnessError(f'tolerance must be between "0%" and "100%", got {given!r}')
    return share


def is_decimal(text: str) -> bool:
    """Return whether the unit of ``text`` is a power of 1,000, such as MB."""
    match = _SIZE.fullmatch(text)
    return match is not None and match[3].lower() in ("kb", "mb", "gb", "tb")


def format_bytes(size: int) -> str:
    """Return ``size`` as text with at most four digits and a binary unit, such as MiB.

    >>> format_bytes(268_435_456)
    '256 MiB'
    """
    sign, magnitude = ("-", -size) if size < 0 else ("", size)
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if magnitude >= factor:
            return f"{sign}{magnitude / factor:.4g} {unit}"
    return f"{sign}{magnitude} B"


def format_range(low: int, high: int) -> str:
    """Return two sizes as a range, or as one size if they are equal.

    >>> format_range(1 << 20, 2 << 20)
    '1 MiB–2 MiB'
    """
    return format_bytes(low) if low == high else f"{format_bytes(low)}–{format_bytes(high)}"
