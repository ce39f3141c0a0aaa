"""Names in a shared library: those it takes from other libraries, and those it provides."""

import mmap
import struct
from pathlib import Path

from harness.schema.errors import HarnessError

_DYNSYM = 11
"""Type of the section that lists the dynamic symbols (ELF specification, "Sections")."""


class ElfError(HarnessError, ValueError):
    """A file that is no 64-bit ELF library."""


def symbols(library: Path) -> tuple[frozenset[str], frozenset[str]]:
    """Return the undefined and the defined dynamic symbols of a library."""
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:6] != b"\x7fELF\x02\x01":
            raise ElfError(f"{library}: not a 64-bit ELF library")
        (offset,) = struct.unpack_from("<Q", data, 40)
        size, count = struct.unpack_from("<HH", data, 58)
        headers = [struct.unpack_from("<IIQQQQIIQQ", data, offset + size * i) for i in range(count)]
        undefined: set[str] = set()
        defined: set[str] = set()
        for header in headers:
            if header[1] == _DYNSYM:
                strings = headers[header[6]]
                _read(data, header[4], header[5], strings[4], undefined, defined)
    return frozenset(undefined), frozenset(defined)


def _read(
    data: mmap.mmap, start: int, size: int, names: int, undefined: set[str], defined: set[str]
) -> None:
    """Add the names of one table of symbols to the two sets."""
    for name, _, _, section, _, _ in struct.iter_unpack("<IBBHQQ", data[start : start + size]):
        begin = names + name
        text = data[begin : data.find(b"\0", begin)].decode(errors="replace")
        (defined if section else undefined).add(text)
