"""Reads a pickle that is nothing but dicts, lists, tuples, strings and numbers.

A pickle is a program for a small machine, and the standard unpickler runs whatever it
says: calls, imports, objects. So this is another machine, one that knows only the
opcodes that hold data. It never looks up a name, dict keys are strings, and what it has
built must stay in proportion to the bytes it has read (one-byte "new list" opcodes would
else grow sixtyfold). The opcodes: ``Lib/pickletools.py`` of CPython.
"""

import gzip
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.schema.errors import HarnessError

# Real snapshots take about ten bytes of memory for each byte of the file.
_BYTES_PER_BYTE = 16
_BYTES_IN_ADVANCE = 16 << 20
_LONGEST_FILE = 4 << 30
_LONGEST_STRING = 1 << 24
_LONGEST_INTEGER = 16
_CONTAINER_BYTES = 64
_ENTRY_BYTES = 104

_BINGET, _MEMOIZE = pickle.BINGET[0], pickle.MEMOIZE[0]
_BININT1, _LONG1, _STOP = pickle.BININT1[0], pickle.LONG1[0], pickle.STOP[0]
_NAMES = {
    value[0]: name
    for name, value in vars(pickle).items()
    if name.isupper() and isinstance(value, bytes) and len(value) == 1
}


class SnapshotError(HarnessError, ValueError):
    """A file that is no memory snapshot, or one that does more than hold data."""


def load_builtins(path: Path) -> Any:
    """Return what the pickle at ``path`` holds; gzip-compressed files are unpacked.

    Raises:
        SnapshotError: one line, for anything but dicts, lists, tuples, strings and numbers.

    """
    machine = _Machine(_read(path))
    try:
        return machine.run()
    except SnapshotError:
        raise
    except (IndexError, TypeError, ValueError):
        # A crooked program takes from an empty stack, appends to a number, and so on.
        where = min(machine.position, len(machine.data))
        raise SnapshotError(f"the pickle is damaged before byte {where}") from None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
        opener: Callable[[Path, str], Any] = gzip.open if compressed else open
        with opener(path, "rb") as file:
            data: bytes = file.read(_LONGEST_FILE + 1)
    except (EOFError, zlib.error):
        raise SnapshotError("the compressed file is truncated or damaged") from None
    except OSError as error:
        raise SnapshotError(f"cannot read the file: {error.strerror or error}") from None
    if len(data) > _LONGEST_FILE:
        raise SnapshotError(f"the file is longer than {_LONGEST_FILE} bytes")
    return data


class _Machine:
    """A stack, the stacks below the open marks, and the memo."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: list[Any] = []
        self.built_bytes = 0

    def run(self) -> Any:
        """Go through the opcodes up to STOP; return what is on the stack then.

        The four most frequent opcodes are written out here; the others have methods.
        """
        data, memo, operations = self.data, self.memo, _OPERATIONS
        if data[:1] != pickle.PROTO or data[1:2] not in (b"\x02", b"\x03", b"\x04", b"\x05"):
            raise SnapshotError("not a pickle of protocol 2 to 5")
        self.position, end = 2, len(data)
        while self.position < end:
            code = data[self.position]
            self.position += 1
            if code == _BINGET:
                self.stack.append(memo[data[self.position]])
                self.position += 1
            elif code == _MEMOIZE:
                memo.append(self.stack[-1])
            elif code == _BININT1:
                self.stack.append(data[self.position])
                self.position += 1
            elif code == _LONG1:
                self.integer(data[self.position])
            elif code == _STOP:
                return self.result()
            else:
                operation = operations.get(code)
                if operation is None:
                    raise SnapshotError(
                        f"{_NAMES.get(code, hex(code))} at byte {self.position - 1} of the pickle "
                        "does more than hold data"
                    )
                operation(self)
        raise SnapshotError("the pickle is truncated")

    def result(self) -> Any:
        """Return the only value that may be left."""
        if len(self.stack) != 1 or self.below:
            raise IndexError
        return self.stack[0]

    def take(self, length: int) -> bytes:
        """Return the next bytes of the file."""
        start = self.position
        self.position += length
        if self.position > len(self.data):
            raise SnapshotError("the pickle is truncated")
        return self.data[start : self.position]

    def number(self, width: int) -> int:
        """Return the next unsigned number of the file."""
        return int.from_bytes(self.take(width), "little")

    def integer(self, length: int) -> None:
        """Push a signed number whose length is the byte just looked at."""
        if length > _LONGEST_INTEGER:
            raise SnapshotError(f"a number at byte {self.position} is {length} bytes long")
        self.position += 1
        self.stack.append(int.from_bytes(self.take(length), "little", signed=True))

    def string(self, width: int) -> None:
        """Push a string."""
        length = self.number(width)
        if length > _LONGEST_STRING:
            raise SnapshotError(f"a string at byte {self.position} is {length} bytes long")
        self.stack.append(self.take(length).decode("utf-8", "replace"))

    def push_new(self, value: Any, size_bytes: int = _CONTAINER_BYTES) -> None:
        """Push something that takes memory of its own."""
        self.stack.append(value)
        self.grow(size_bytes)

    def grow(self, size_bytes: int) -> None:
        """Count what is built; refuse what is out of proportion."""
        self.built_bytes += size_bytes
        if self.built_bytes > _BYTES_IN_ADVANCE + _BYTES_PER_BYTE * self.position:
            raise SnapshotError(f"the pickle grows out of proportion by byte {self.position}")

    def mark(self) -> None:
        """Begin a new stack on top of the present one."""
        self.grow(_CONTAINER_BYTES)
        self.below.append(self.stack)
        self.stack = []

    def to_mark(self) -> list[Any]:
        """Return all above the last mark; what was below is the stack again."""
        items, self.stack = self.stack, self.below.pop()
        return items

    def tuple_of(self, length: int) -> None:
        """Push a tuple of the last values."""
        items = tuple(self.stack[-length:])
        if len(items) < length:
            raise IndexError
        del self.stack[-length:]
        self.push_new(items)

    def append(self, items: list[Any]) -> None:
        """Append to the list on the stack."""
        holder = self.stack[-1]
        if type(holder) is not list:
            raise TypeError
        holder.extend(items)

    def set_items(self, items: list[Any]) -> None:
        """Put keys and values into the dict on the stack; keys are strings."""
        holder = self.stack[-1]
        keys = items[::2]
        if type(holder) is not dict or not all(type(key) is str for key in keys):
            raise TypeError
        before = len(holder)
        holder.update(zip(keys, items[1::2], strict=True))
        self.grow(_ENTRY_BYTES * (len(holder) - before))

    def append_last(self) -> None:
        """Append the last value to the list before it."""
        self.append([self.stack.pop()])

    def set_last(self) -> None:
        """Put the last key and value into the dict before them."""
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def put(self, width: int) -> None:
        """Remember the last value under a number, which is the next one or a known one."""
        number = self.number(width)
        if number == len(self.memo):
            self.memo.append(None)
        self.memo[number] = self.stack[-1]

    def signed(self, form: str, width: int) -> None:
        """Push a number of a fixed form."""
        self.stack.append(struct.unpack(form, self.take(width))[0])


_OPERATIONS: dict[int, Callable[[_Machine], object]] = {
    pickle.PROTO[0]: lambda machine: machine.take(1),
    pickle.FRAME[0]: lambda machine: machine.take(8),
    pickle.MARK[0]: _Machine.mark,
    pickle.NONE[0]: lambda machine: machine.stack.append(None),
    pickle.NEWTRUE[0]: lambda machine: machine.stack.append(True),
    pickle.NEWFALSE[0]: lambda machine: machine.stack.append(False),
    pickle.BININT[0]: lambda machine: machine.signed("<i", 4),
    pickle.BININT2[0]: lambda machine: machine.stack.append(machine.number(2)),
    pickle.BINFLOAT[0]: lambda machine: machine.signed(">d", 8),
    pickle.SHORT_BINUNICODE[0]: lambda machine: machine.string(1),
    pickle.BINUNICODE[0]: lambda machine: machine.string(4),
    pickle.BINUNICODE8[0]: lambda machine: machine.string(8),
    pickle.EMPTY_LIST[0]: lambda machine: machine.push_new([]),
    pickle.EMPTY_DICT[0]: lambda machine: machine.push_new({}),
    pickle.EMPTY_TUPLE[0]: lambda machine: machine.stack.append(()),
    pickle.TUPLE1[0]: lambda machine: machine.tuple_of(1),
    pickle.TUPLE2[0]: lambda machine: machine.tuple_of(2),
    pickle.TUPLE3[0]: lambda machine: machine.tuple_of(3),
    pickle.TUPLE[0]: lambda machine: machine.push_new(tuple(machine.to_mark())),
    pickle.APPEND[0]: _Machine.append_last,
    pickle.APPENDS[0]: lambda machine: machine.append(machine.to_mark()),
    pickle.SETITEM[0]: _Machine.set_last,
    pickle.SETITEMS[0]: lambda machine: machine.set_items(machine.to_mark()),
    pickle.LONG_BINGET[0]: lambda machine: machine.stack.append(machine.memo[machine.number(4)]),
    pickle.BINPUT[0]: lambda machine: machine.put(1),
    pickle.LONG_BINPUT[0]: lambda machine: machine.put(4),
}
