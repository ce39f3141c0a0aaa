"""Reads a pickle that has only dicts, lists, strings, numbers and pairs of numbers.

A pickle is a program whose opcodes can also import modules and call functions. Two passes prevent
imports and calls. The first pass reads every opcode, and refuses opcodes that do more than build
data. The first pass also refuses a file that would use far more memory than its size suggests. An
opcode of one byte can create a list of about 60 bytes. In the second pass, ``pickle.loads`` runs
the checked opcodes. ``pickle.loads`` reads from memory, so ``FRAME`` opcodes have no effect.
``Lib/pickletools.py`` of CPython documents the opcodes.
"""

import gc
import itertools
import pickle
import pickletools
import re
from typing import Any

from harness.schema.units import format_bytes
from harness.snapshots.file_bytes import Deadline, SnapshotError

# Recordings that PyTorch writes take 11 bytes of memory for each byte of the file: every event is
# a new dict with new strings and a new tuple. By these weights they count 22.
_WEIGHTS = {pickle.EMPTY_DICT[0]: 300, pickle.EMPTY_LIST[0]: 100, pickle.MARK[0]: 64}
_WEIGHT_OF_BYTE = 16
_MOST_PER_BYTE = 24
_IN_ADVANCE_BYTES = 16 << 20
_MOST_BYTES = 3 << 30
_LONGEST_STRING = 1 << 24
_MOST_PAIRS = 1 << 12
"""Largest number of different pairs; a recording has one pair for each memory pool. Millions of
pairs with equal hashes could slow down the parser."""
_STOPS_BETWEEN_CHECKS = 1 << 15

# Up to 64 bits: Python hashes an integer modulo 2**61 - 1, so few of these share a hash.
_NUMBER = b"|".join(
    b"%s.{%d}" % (re.escape(bytes([n])), n) if n < 9 else b"\t.{8}\0" for n in range(10)
)
_SHORT_TEXT = b"|".join(b"%s.{%d}" % (re.escape(bytes([n])), n) for n in range(32))
_INTEGER = rb"(?:K.|M..|J.{4}|\x8a(?:%s))" % _NUMBER
_FRAME = rb"\x95.{8}"
_PAIR = rb"%s(?:%s)?%s\x86" % (_INTEGER, _FRAME, _INTEGER)
# The only tuple is a pair of integers, a pool's number: a deep tuple as a key would be hashed
# without end. A frame may begin within the pair.
_PLAIN = re.compile(
    rb"(?:[N\x88\x89\x94aesu]|[\x80hq].|j.{4}|G.{8}|%s|\x8c(?:%s)|%s(?:(?:%s)?%s\x86)?)*+"
    % (_FRAME, _SHORT_TEXT, _INTEGER, _FRAME, _INTEGER),
    re.DOTALL,
)
"""Pattern for opcodes of known length that build small objects."""
_CUT_OFF = b"\x80hqjG\x95KMJ"
_TEXT_WIDTHS = {pickle.SHORT_BINUNICODE: 1, pickle.BINUNICODE: 4, pickle.BINUNICODE8: 8}
_LOGIC = (ArithmeticError, AttributeError, EOFError, LookupError, TypeError, ValueError)


def load_builtins(data: bytearray, *, deadline: Deadline | None = None) -> Any:
    """Return the content of a pickle: dicts, lists, strings, numbers and pairs of numbers."""
    _check_opcodes(data, Deadline() if deadline is None else deadline)
    if len({pair.group() for pair in re.finditer(_PAIR, data, re.DOTALL)}) > _MOST_PAIRS:
        raise SnapshotError(f"the pickle has more than {_MOST_PAIRS:,} different pairs of numbers")
    collects = gc.isenabled()
    gc.disable()  # it would walk through millions of new dicts again and again
    try:
        return pickle.loads(data)
    except (pickle.UnpicklingError, *_LOGIC):
        # A crooked program takes from an empty stack, appends to a number, and so on.
        raise SnapshotError("the pickle is damaged") from None
    finally:
        if collects:
            gc.enable()


def _check_opcodes(data: bytearray, deadline: Deadline) -> None:
    """Refuse opcodes that do more than build data, and files that build too much data."""
    if data[:1] != pickle.PROTO or bytes(data[1:2]) not in (b"\2", b"\3", b"\4", b"\5"):
        raise SnapshotError("no memory snapshot (not a pickle of protocol 2 to 5)")
    position, built, end = 2, 0, len(data)
    for stop in itertools.count():
        plain = _PLAIN.match(data, position)
        assert plain is not None  # it may be empty
        position = plain.end()
        if position == end:
            raise SnapshotError("the pickle is truncated")
        weight = _WEIGHTS.get(data[position], 0)
        if weight:
            built += weight
            position += 1
        else:
            opcode = bytes(data[position : position + 1])
            if opcode == pickle.STOP:
                return
            position += _checked_length(data, position, opcode)
        if built > _IN_ADVANCE_BYTES + _MOST_PER_BYTE * position:
            raise SnapshotError(
                f"the pickle builds far more data than its size explains, by byte {position}"
            )
        if stop % _STOPS_BETWEEN_CHECKS == 0:
            deadline.check("reading the recording")
            if built + _WEIGHT_OF_BYTE * position > _MOST_BYTES:
                raise SnapshotError(
                    f"the recording needs more than {format_bytes(_MOST_BYTES)} of memory; "
                    "record fewer events (max_entries)"
                )


def _checked_length(data: bytearray, position: int, opcode: bytes) -> int:
    """Check an opcode that ``_PLAIN`` does not match, and return its length in bytes."""
    if opcode in _TEXT_WIDTHS:
        width = _TEXT_WIDTHS[opcode]
        length = _number(data, position, width)
        if length > _LONGEST_STRING:
            raise SnapshotError(f"a string at byte {position} is {length} bytes long")
        if position + 1 + width + length > len(data):
            raise SnapshotError("the pickle is truncated")
        return 1 + width + length
    if opcode == pickle.LONG_BINPUT:
        if _number(data, position, 4) > position:
            raise SnapshotError(f"the pickle is damaged before byte {position}")
        return 5
    if opcode == pickle.LONG1 and position + 1 + _number(data, position, 1) < len(data):
        raise SnapshotError(f"a number at byte {position} has more than 64 bits")
    if opcode == pickle.LONG1 or opcode in _CUT_OFF:
        raise SnapshotError("the pickle is truncated")
    names = {operation.code: operation.name for operation in pickletools.opcodes}
    name = names.get(opcode.decode("latin-1"), opcode.hex())
    raise SnapshotError(
        f"{name} at byte {position} of the pickle is no data of a recording; nothing in it was run"
    )


def _number(data: bytearray, position: int, width: int) -> int:
    """Return the number in the ``width`` bytes after the opcode at ``position``."""
    if position + width >= len(data):
        raise SnapshotError("the pickle is truncated")
    return int.from_bytes(data[position + 1 : position + 1 + width], "little")
