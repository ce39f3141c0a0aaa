"""Bytes to text and back: ``268435456`` <-> ``"256 MiB"``.

The harness computes in whole bytes; only what people type or read carries a unit.
"""

import re

_FACTORS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_SIZE = re.compile(r"\s*(\d+)(?:\.(\d+))?\s*([A-Za-z]*)\s*", re.ASCII)


def parse_bytes(text: str) -> int:
    """Return the bytes that ``text`` names, such as ``256MiB``, ``1.5GiB`` or ``1000``.

    Raises:
        ValueError: ``text`` is no size, or not a whole number of bytes of at least 1.

    """
    match = _SIZE.fullmatch(text)
    factor = _FACTORS.get(match[3].lower()) if match else None
    if match is None or factor is None:
        raise ValueError(f"{text!r} is not a size; write it like 256MiB, 1.5GiB or 1000000")
    fraction = match[2] or ""
    scale: int = 10 ** len(fraction)
    size, rest = divmod(int(match[1] + fraction) * factor, scale)
    if rest or not 0 < size < 2**63:
        raise ValueError(f"{text!r} is not a whole number of bytes from 1 to 2^63 - 1")
    return size


def format_bytes(size: int) -> str:
    """Return ``size`` in the largest binary unit that leaves at least 1, to four digits."""
    sign, magnitude = ("-", -size) if size < 0 else ("", size)
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if magnitude >= factor:
            return f"{sign}{magnitude / factor:.4g} {unit}"
    return f"{sign}{magnitude} B"
