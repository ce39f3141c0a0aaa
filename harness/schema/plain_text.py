"""Escapes untrusted text, so that a terminal, browser or spreadsheet does not interpret the text.

Module names, exception messages and downloaded records may contain escape sequences, characters
that change the text direction, or spreadsheet formulas.
"""

import re

_ACTIVE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 without tab and line feed, DEL, C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks and overrides of direction
    "\u2028\u2029\ufeff\ud800-\udfff]"  # separators of lines, a byte-order mark, surrogates
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_FORMULA = re.compile(r"[=@\t\r]|[+-](?![\d.,]+ ?%?$)")
"""Pattern for the start of a cell that a spreadsheet runs as a formula (OWASP, CSV injection)."""


def printable(text: str) -> str:
    """Return ``text`` with control characters escaped, except tab and line feed."""
    return _ACTIVE.sub(lambda match: _written_out(match.group()), text)


def _written_out(character: str) -> str:
    code = ord(character)
    code -= 0xDC00 * (0xDC80 <= code <= 0xDCFF)  # Python's form of a byte that is not UTF-8
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def utf8_name(text: str) -> str:
    r"""Return the name of a file with each byte that is not UTF-8 escaped.

    >>> utf8_name("bad\udcff.bin")
    'bad\\xff.bin'
    """
    return _SURROGATE.sub(lambda match: _written_out(match.group()), text)


def csv_cell(value: object) -> object:
    """Return ``value``; a string is escaped so that a spreadsheet does not run it as a formula."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if _FORMULA.match(text) else text


def json_text(line: bytes) -> str:
    r"""Return the JSON in ``line`` as text with escaped control characters."""
    return _ACTIVE.sub(lambda match: f"\\u{ord(match.group()):04x}", line.decode())


_ESCAPED = re.compile(r"\\\\|\\u[dD][89aAbB]..\\u[dD][c-fC-F]..|\\u[dD][89a-fA-F]..")
"""Pattern for an escaped backslash, surrogate pair or lone surrogate in JSON."""


def without_lone_surrogates(line: str) -> str:
    r"""Return a line of JSON with U+FFFD instead of each lone surrogate.

    >>> without_lone_surrogates(r'"a\ud800b \ud83d\ude00 \\ud800"')
    '"a\\ufffdb \\ud83d\\ude00 \\\\ud800"'
    """
    return _ESCAPED.sub(lambda found: found[0] if len(found[0]) != 6 else r"\ufffd", line)
