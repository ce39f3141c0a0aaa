"""Reads a pickle that is nothing but dicts, lists, tuples, strings and numbers.

A pickle is a program, and unpickling runs it. So the bytes are checked before anything is
built: only opcodes that make built-in values are admitted, lengths and references must lie
within what came before, and what would be built must stay in proportion to the bytes read
(a file of one-byte "new list" opcodes would else grow sixtyfold). Only then the standard
unpickler reads it, with every way to a name or an outside object closed as well.
"""

import gzip
import io
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

# Real snapshots take about ten bytes of memory for each byte of the file.
_BYTES_PER_BYTE = 16
_BYTES_IN_ADVANCE = 16 << 20
_DEEPEST_STACK = 1 << 16
_LONGEST_FILE = 4 << 30
_LONGEST_INTEGER = 16

# The memory a value takes, roughly, apart from what is in it.
_CONTAINER, _SCALAR, _ENTRY = 64, 32, 104

# Opcode: (bytes of its argument, change of the stack, memory).
_FIXED: dict[int, tuple[int, int, int]] = {
    pickle.PROTO[0]: (1, 0, 0),
    pickle.FRAME[0]: (8, 0, 0),
    pickle.MARK[0]: (0, 1, 0),
    pickle.NONE[0]: (0, 1, 0),
    pickle.NEWTRUE[0]: (0, 1, 0),
    pickle.NEWFALSE[0]: (0, 1, 0),
    pickle.BININT[0]: (4, 1, _SCALAR),
    pickle.BININT1[0]: (1, 1, 0),
    pickle.BININT2[0]: (2, 1, _SCALAR),
    pickle.BINFLOAT[0]: (8, 1, _SCALAR),
    pickle.EMPTY_LIST[0]: (0, 1, _CONTAINER),
    pickle.EMPTY_DICT[0]: (0, 1, _CONTAINER),
    pickle.EMPTY_TUPLE[0]: (0, 1, 0),
    pickle.APPEND[0]: (0, -1, 8),
    pickle.SETITEM[0]: (0, -2, _ENTRY),
    pickle.TUPLE1[0]: (0, 0, _CONTAINER),
    pickle.TUPLE2[0]: (0, -1, _CONTAINER),
    pickle.TUPLE3[0]: (0, -2, _CONTAINER),
    pickle.BINGET[0]: (1, 1, 0),
    pickle.LONG_BINGET[0]: (4, 1, 0),
}
_COUNTED = {  # opcode: bytes of its length, greatest length
    pickle.SHORT_BINUNICODE[0]: (1, 255),
    pickle.BINUNICODE[0]: (4, 1 << 24),
    pickle.BINUNICODE8[0]: (8, 1 << 24),
    pickle.LONG1[0]: (1, _LONGEST_INTEGER),
}
_MEMO = {pickle.MEMOIZE[0]: 0, pickle.BINPUT[0]: 1, pickle.LONG_BINPUT[0]: 4}
_TO_MARK = {  # opcode: memory for each value above the mark
    pickle.APPENDS[0]: 8,
    pickle.SETITEMS[0]: _ENTRY // 2,
    pickle.TUPLE[0]: 8,
}
_NAMES = {
    value[0]: name
    for name, value in vars(pickle).items()
    if name.isupper() and isinstance(value, bytes) and len(value) == 1
}


class SnapshotError(ValueError):
    """A file that is no memory snapshot, or one that does more than hold data."""


def load_builtins(path: Path) -> Any:
    """Return what the pickle at ``path`` holds; gzip-compressed files are unpacked.

    Raises:
        SnapshotError: one line, for anything but dicts, lists, tuples, strings and numbers.

    """
    data = _read(path)
    _check(data)
    try:
        return _BuiltinsOnly(io.BytesIO(data)).load()
    except SnapshotError:
        raise
    except Exception as error:  # the unpickler raises whatever a crooked file provokes
        raise SnapshotError(f"not a readable pickle: {type(error).__name__}") from None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
        opener: Callable[[Path, str], Any] = gzip.open if compressed else open
        with opener(path, "rb") as file:
            data: bytes = file.read(_LONGEST_FILE + 1)
    except OSError as error:
        raise SnapshotError(f"cannot read the file: {error.strerror or error}") from None
    except (EOFError, zlib.error):
        raise SnapshotError("the compressed file is truncated or damaged") from None
    if len(data) > _LONGEST_FILE:
        raise SnapshotError(f"the file is longer than {_LONGEST_FILE} bytes")
    return data


def _refuse(code: int, position: int) -> NoReturn:
    name = _NAMES.get(code, f"byte {code:#04x}")
    raise SnapshotError(f"{name} at byte {position} of the pickle does more than hold data")


def _check(data: bytes) -> None:  # noqa: C901 -- flat, since it runs for every opcode
    """Go through the opcodes without building anything."""
    if data[:1] != pickle.PROTO:
        raise SnapshotError("not a pickle of protocol 2 or later")
    position, depth, memory, memoized = 0, 0, 0, 0
    marks: list[int] = []
    end = len(data)
    stop, mark = pickle.STOP[0], pickle.MARK[0]
    fixed, counted, memo, to_mark = _FIXED, _COUNTED, _MEMO, _TO_MARK
    while position < end:
        code = data[position]
        position += 1
        if code in fixed:
            length, change, cost = fixed[code]
            if code == mark:
                marks.append(depth)
            position += length
            depth += change
            memory += cost
        elif code in memo:
            length = memo[code]
            index = int.from_bytes(data[position : position + length], "little")
            if index > memoized:
                raise SnapshotError(f"a reference at byte {position} leads nowhere")
            position += length
            memoized += 1
            memory += 8
        elif code in counted:
            width, longest = counted[code]
            length = int.from_bytes(data[position : position + width], "little")
            if length > longest:
                raise SnapshotError(f"a value at byte {position} is {length} bytes long")
            position += width + length
            depth += 1
            memory += 56 + length
        elif code in to_mark:
            if not marks:
                raise SnapshotError(f"nothing was begun that could end at byte {position}")
            base = marks.pop()
            memory += (depth - base) * to_mark[code]
            depth = base + (code == pickle.TUPLE[0])
        elif code == stop:
            return
        else:
            _refuse(code, position - 1)
        if not 0 <= depth <= _DEEPEST_STACK:
            raise SnapshotError(f"the pickle holds {depth} loose values at byte {position}")
        if memory > _BYTES_IN_ADVANCE + _BYTES_PER_BYTE * position:
            raise SnapshotError(f"the pickle would grow out of proportion by byte {position}")
    raise SnapshotError("the pickle is truncated")


class _BuiltinsOnly(pickle.Unpickler):
    """The second lock: no name is looked up, nothing outside is loaded."""

    def find_class(self, module_name: str, global_name: str) -> NoReturn:
        raise SnapshotError(f"the pickle asks for {module_name}.{global_name}")

    def persistent_load(self, pid: object) -> NoReturn:  # noqa: ARG002 -- pickle's signature
        raise SnapshotError("the pickle asks for an object outside the file")
