"""Reads a pickle that is nothing but dicts, lists, tuples, strings and numbers.

A pickle is a program for a small machine, and the standard unpickler runs whatever it
says: calls, imports, objects. So this is another machine, one that knows only the
opcodes that hold data. It never looks up a name, dict keys are strings, and what it has
built must stay in proportion to the bytes it has read (one-byte "new list" opcodes would
else grow sixtyfold). The opcodes: ``Lib/pickletools.py`` of CPython.
"""

import pickle
import struct
from collections.abc import Callable
from typing import Any, Protocol

from harness.schema.units import format_bytes
from harness.snapshots.file_bytes import Deadline, SnapshotError

# Recordings that PyTorch writes take 16 to 17.2 bytes of memory for each byte of the file: every
# event is a new dict with new strings and tuples.
_BYTES_PER_BYTE = 24
_BYTES_IN_ADVANCE = 16 << 20
_MOST_BYTES = 3 << 29
_LONGEST_STRING = 1 << 24
_LONGEST_INTEGER = 16
_CONTAINER_BYTES = 64
_ENTRY_BYTES = 104
_NUMBER_BYTES = 32
# What an event takes when it is read and replayed; a hostile file has one in 25 bytes.
_SHORTCUT_BYTES = 400
_STRING_BYTES = 56
_SLOT_BYTES = 8
_OPCODES_BETWEEN_CHECKS = 1 << 16

_BINGET, _MEMOIZE = pickle.BINGET[0], pickle.MEMOIZE[0]
_EMPTY_DICT = pickle.EMPTY_DICT[0]
_BININT1, _LONG1, _STOP = pickle.BININT1[0], pickle.LONG1[0], pickle.STOP[0]
_NAMES = {
    value[0]: name
    for name, value in vars(pickle).items()
    if name.isupper() and isinstance(value, bytes) and len(value) == 1
}


class Shortcut(Protocol):
    """Reads a whole value at once where it knows its form, such as an event of a trace."""

    def read(self, data: bytearray, position: int, memo: list[Any]) -> tuple[Any, int] | None:
        """Return the value that begins at ``position`` and the position behind it, or None.

        What the opcodes would have remembered is appended to ``memo``.
        """

    def learn(self, data: bytearray, start: int, end: int, memo: list[Any]) -> None:
        """Look at a dict that was read opcode by opcode, from ``start`` to ``end``."""


def load_builtins(
    data: bytearray, *, deadline: Deadline | None = None, shortcut: Shortcut | None = None
) -> Any:
    """Return what the pickle ``data`` holds: dicts, lists, tuples, strings and numbers."""
    machine = _Machine(data, Deadline() if deadline is None else deadline, shortcut)
    try:
        return machine.run()
    except SnapshotError:
        raise
    except (IndexError, TypeError, ValueError):
        # A crooked program takes from an empty stack, appends to a number, and so on.
        where = min(machine.position, len(machine.data))
        raise SnapshotError(f"the pickle is damaged before byte {where}") from None


class _Machine:
    """A stack, the stacks below the open marks, and the memo."""

    def __init__(self, data: bytearray, deadline: Deadline, shortcut: Shortcut | None) -> None:
        self.data = data
        self.deadline = deadline
        self.shortcut = shortcut
        self.position = 0
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.slots_below = 0
        self.memo: list[Any] = []
        self.built_bytes = 0
        self.dict_start = 0

    def run(self) -> Any:
        """Go through the opcodes up to STOP; return what is on the stack then."""
        data = self.data
        if data[:1] != pickle.PROTO or bytes(data[1:2]) not in (b"\x02", b"\x03", b"\x04", b"\x05"):
            raise SnapshotError("no memory snapshot (not a pickle of protocol 2 to 5)")
        self.position = 2
        while not self.run_some():
            self.deadline.check("reading the recording")
            self.check_size()
            if self.position >= len(data):
                raise SnapshotError("the pickle is truncated")
        return self.result()

    def run_some(self) -> bool:
        """Go through some opcodes; return whether STOP was reached."""
        data, memo, operations, end = self.data, self.memo, _OPERATIONS, len(self.data)
        for _ in range(_OPCODES_BETWEEN_CHECKS):
            if self.position >= end:
                return False
            code = data[self.position]
            self.position += 1
            if code == _BINGET:
                self.stack.append(memo[data[self.position]])
                self.position += 1
            elif code == _MEMOIZE:
                memo.append(self.stack[-1])
            elif code == _EMPTY_DICT:
                self.dictionary()
            elif code == _BININT1:
                self.stack.append(data[self.position])
                self.position += 1
            elif code == _LONG1:
                self.integer(data[self.position])
            elif code == _STOP:
                return True
            else:
                operation = operations.get(code)
                if operation is None:
                    raise SnapshotError(
                        f"{_NAMES.get(code, hex(code))} at byte {self.position - 1} of the pickle "
                        "is no plain data; it could run code"
                    )
                operation(self)
        return False

    def dictionary(self) -> None:
        """Push a new dict, or what the shortcut makes of the whole of it."""
        start = self.position - 1
        if self.shortcut is not None:
            read = self.shortcut.read(self.data, start, self.memo)
            if read is not None:
                value, self.position = read
                self.push_new(value, _SHORTCUT_BYTES)
                return
        self.dict_start = start
        self.push_new({})

    def check_size(self) -> None:
        """Count the slots of the stacks and the memo too; refuse what is out of proportion."""
        slots = len(self.stack) + self.slots_below + len(self.memo)
        built = self.built_bytes + _SLOT_BYTES * slots
        if built > _BYTES_IN_ADVANCE + _BYTES_PER_BYTE * self.position:
            raise SnapshotError(
                f"the pickle builds far more data than its size explains, by byte {self.position}"
            )
        if built + len(self.data) > _MOST_BYTES:
            raise SnapshotError(
                f"the recording needs more than {format_bytes(_MOST_BYTES)} of memory; "
                "record fewer events (max_entries)"
            )

    def result(self) -> Any:
        """Return the only value that may be left."""
        if len(self.stack) != 1 or self.below:
            raise IndexError
        return self.stack[0]

    def take(self, length: int) -> bytearray:
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
        number = int.from_bytes(self.take(length), "little", signed=True)
        self.push_new(number, _NUMBER_BYTES)

    def string(self, width: int) -> None:
        """Push a string."""
        length = self.number(width)
        if length > _LONGEST_STRING:
            raise SnapshotError(f"a string at byte {self.position} is {length} bytes long")
        self.push_new(self.take(length).decode("utf-8", "replace"), _STRING_BYTES + length)

    def push_new(self, value: Any, size_bytes: int = _CONTAINER_BYTES) -> None:
        """Push something that takes memory of its own."""
        self.stack.append(value)
        self.grow(size_bytes)

    def grow(self, size_bytes: int) -> None:
        """Count what is built; refuse what is out of proportion."""
        self.built_bytes += size_bytes
        if self.built_bytes > _BYTES_IN_ADVANCE + _BYTES_PER_BYTE * self.position:
            self.check_size()

    def mark(self) -> None:
        """Begin a new stack on top of the present one."""
        self.grow(_CONTAINER_BYTES)
        self.below.append(self.stack)
        self.slots_below += len(self.stack)
        self.stack = []

    def to_mark(self) -> list[Any]:
        """Return all above the last mark; what was below is the stack again."""
        items, self.stack = self.stack, self.below.pop()
        self.slots_below -= len(self.stack)
        return items

    def tuple_of(self, length: int) -> None:
        """Push a tuple of the last values."""
        items = self.stack[-length:]
        if len(items) < length:
            raise IndexError
        del self.stack[-length:]
        self.push_tuple(items)

    def push_tuple(self, items: list[Any]) -> None:
        """Push a tuple of ``items``."""
        self.push_new(tuple(items), _CONTAINER_BYTES + _SLOT_BYTES * len(items))

    def append(self, items: list[Any]) -> None:
        """Append to the list on the stack."""
        holder = self.stack[-1]
        if type(holder) is not list:
            raise TypeError
        holder.extend(items)
        self.grow(_SLOT_BYTES * len(items))

    def set_items(self, items: list[Any]) -> None:
        """Put keys and values into the dict on the stack; keys are strings."""
        holder = self.stack[-1]
        keys = items[::2]
        if type(holder) is not dict or not all(type(key) is str for key in keys):
            raise TypeError
        before = len(holder)
        holder.update(zip(keys, items[1::2], strict=True))
        self.grow(_ENTRY_BYTES * (len(holder) - before))

    def set_many(self) -> None:
        """Put all above the last mark into the dict below it."""
        items = self.to_mark()
        self.set_items(items)
        if self.shortcut is not None and self.dict_start:
            self.shortcut.learn(self.data, self.dict_start, self.position, self.memo)
            self.dict_start = 0

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
        self.push_new(struct.unpack(form, self.take(width))[0], _NUMBER_BYTES)


_OPERATIONS: dict[int, Callable[[_Machine], object]] = {
    pickle.PROTO[0]: lambda machine: machine.take(1),
    pickle.FRAME[0]: lambda machine: machine.take(8),
    pickle.MARK[0]: _Machine.mark,
    pickle.NONE[0]: lambda machine: machine.stack.append(None),
    pickle.NEWTRUE[0]: lambda machine: machine.stack.append(True),
    pickle.NEWFALSE[0]: lambda machine: machine.stack.append(False),
    pickle.BININT[0]: lambda machine: machine.signed("<i", 4),
    pickle.BININT2[0]: lambda machine: machine.push_new(machine.number(2), _NUMBER_BYTES),
    pickle.BINFLOAT[0]: lambda machine: machine.signed(">d", 8),
    pickle.SHORT_BINUNICODE[0]: lambda machine: machine.string(1),
    pickle.BINUNICODE[0]: lambda machine: machine.string(4),
    pickle.BINUNICODE8[0]: lambda machine: machine.string(8),
    pickle.EMPTY_LIST[0]: lambda machine: machine.push_new([]),
    pickle.EMPTY_TUPLE[0]: lambda machine: machine.stack.append(()),
    pickle.TUPLE1[0]: lambda machine: machine.tuple_of(1),
    pickle.TUPLE2[0]: lambda machine: machine.tuple_of(2),
    pickle.TUPLE3[0]: lambda machine: machine.tuple_of(3),
    pickle.TUPLE[0]: lambda machine: machine.push_tuple(machine.to_mark()),
    pickle.APPEND[0]: lambda machine: machine.append([machine.stack.pop()]),
    pickle.APPENDS[0]: lambda machine: machine.append(machine.to_mark()),
    pickle.SETITEM[0]: _Machine.set_last,
    pickle.SETITEMS[0]: _Machine.set_many,
    pickle.LONG_BINGET[0]: lambda machine: machine.stack.append(machine.memo[machine.number(4)]),
    pickle.BINPUT[0]: lambda machine: machine.put(1),
    pickle.LONG_BINPUT[0]: lambda machine: machine.put(4),
}
