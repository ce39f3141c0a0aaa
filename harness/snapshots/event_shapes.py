"""Events read at once: of the same form as an event that was read opcode by opcode before.

A trace is a million dicts with the same keys in the same order. The keys are references to
strings that the pickle has held before, so most events are equal byte by byte but for a few
numbers. A form that was seen becomes a regular expression; what matches it becomes a
``TraceEvent`` without a dict in between. What does not match is read opcode by opcode.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

from harness.snapshots.trace_event import (
    ACTIONS,
    ADDRESS_LIMIT,
    NO_STACK,
    SIZE_LIMIT,
    PoolId,
    Stack,
    TraceEvent,
    pool_of,
    stack_of,
    stream_of,
    time_of,
)

_MOST_SHAPES = 16
_LONGEST_EVENT = 4096
_REFERENCE = rb"h[\s\S]|j[\s\S]{4}"
_NUMBER = (
    rb"K[\s\S]|M[\s\S]{2}|J[\s\S]{4}|\x8a(?:\x05[\s\S]{5}|\x06[\s\S]{6}|\x07[\s\S]{7}|\x08[\s\S]{8}"
    rb"|\x09[\s\S]{9})"
)
_NEW_LIST = (
    rb"\]\x94(?:\((?:h[\s\S]|j[\s\S]{4}){1,200}e|(?:h[\s\S]|j[\s\S]{4})a)?"  # of known frames
)
_KEY = re.compile(_REFERENCE)
_FIELDS = {
    "action": re.compile(_REFERENCE),
    "addr": re.compile(_NUMBER),
    "size": re.compile(_NUMBER),
    "stream": re.compile(_NUMBER),
    "time_us": re.compile(_NUMBER),
    "frames": re.compile(_REFERENCE + rb"|" + _NEW_LIST),
}
_CONSTANT = re.compile(
    rb"(?P<known>h[\s\S]|j[\s\S]{4})|N|(?P<pool>K[\s\S]K[\s\S]\x86)\x94|\x8c(?P<length>[\s\S])"
)
_BEGIN: Final = b"}\x94("


class _Used:
    """Stands in the memo for an event's dict, which no recording refers to again."""


_USED: Final = _Used()


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """One form: its expression, which group is which field, and what it remembers."""

    expression: re.Pattern[bytes]
    groups: dict[str, int]
    pool: PoolId | None
    before_frames: tuple[Any, ...]
    after_frames: tuple[Any, ...]


class EventShapes:
    """The forms seen so far; a ``Shortcut`` of the unpickler."""

    def __init__(self) -> None:
        self._shapes: list[_Shape] = []
        self._stacks: dict[bytes, Stack] = {}

    def read(self, data: bytearray, position: int, memo: list[Any]) -> tuple[Any, int] | None:
        """Return the event that begins at ``position``; None where no form matches."""
        for shape in self._shapes:
            match = shape.expression.match(data, position)
            if match is not None:
                event = self._event(shape, match, memo)
                return None if event is None else (event, match.end())
        return None

    def _event(self, shape: _Shape, match: re.Match[bytes], memo: list[Any]) -> TraceEvent | None:
        """Return the event; None where it is not fit, for the slow way to say why."""
        parts, groups = match.groups(), shape.groups
        action = _known(parts[groups["action"]], memo)
        address, size = _number(parts[groups["addr"]]), _number(parts[groups["size"]])
        if action.__class__ is not str or action not in ACTIONS:
            return None
        if not (0 <= address < ADDRESS_LIMIT and 0 <= size < SIZE_LIMIT):
            return None
        stack, is_new = NO_STACK, False
        if "frames" in groups:
            part = parts[groups["frames"]]
            is_new = part[0] == 0x5D
            known = self._stack(part, memo) if is_new else _stack_at(part, memo)
            if known is None:
                return None
            stack = known
        stream = _number(parts[groups["stream"]]) if "stream" in groups else 0
        time = _number(parts[groups["time_us"]]) if "time_us" in groups else None
        memo.extend(shape.before_frames)
        if is_new:
            memo.append(stack)
        memo.extend(shape.after_frames)
        fields = (action, address, size, stream_of(stream), shape.pool, time_of(time), stack)
        return tuple.__new__(TraceEvent, fields)

    def _stack(self, part: bytes, memo: list[Any]) -> Stack | None:
        """Return the stack of a new list of frames, each of which is known."""
        stack = self._stacks.get(part)
        if stack is None:
            frames = [_known(reference, memo) for reference in _KEY.findall(part, 2)]
            if not all(type(frame) is dict for frame in frames):
                return None
            stack = self._stacks[part] = stack_of(frames)
        return stack

    def learn(self, data: bytearray, start: int, end: int, memo: list[Any]) -> None:
        """Take the form of the dict from ``start`` to ``end``, if it is an event's."""
        if len(self._shapes) < _MOST_SHAPES and end - start < _LONGEST_EVENT:
            try:
                shape = _shape(bytes(data[start:end]), memo)
            except IndexError:
                return
            if shape is not None:
                self._shapes.append(shape)


def _shape(text: bytes, memo: list[Any]) -> _Shape | None:
    if not text.startswith(_BEGIN):
        return None
    pieces = [re.escape(_BEGIN)]
    groups: dict[str, int] = {}
    remembered: list[list[Any]] = [[_USED], []]
    pool: PoolId | None = None
    position = len(_BEGIN)
    while text[position:] != b"u":
        key = _KEY.match(text, position)
        name = None if key is None else _known(key[0], memo)
        if key is None or type(name) is not str or name in groups:
            return None
        pieces.append(re.escape(key[0]))
        position = key.end()
        if name in _FIELDS:
            value = _FIELDS[name].match(text, position)
            if value is None:
                return None
            pieces.append(b"(" + _FIELDS[name].pattern + b")")
            groups[name] = len(groups)
            position = value.end()
            continue
        constant = _constant(text, position, memo)
        if constant is None:
            return None
        value_of, stop, is_new = constant
        if is_new:
            remembered["frames" in groups].append(value_of)
        if name == "pool_id":
            pool = pool_of(value_of)
        pieces.append(re.escape(text[position:stop]))
        position = stop
    if not {"action", "addr", "size"} <= set(groups):
        return None
    return _Shape(
        expression=re.compile(b"".join(pieces) + b"u"),
        groups=groups,
        pool=pool,
        before_frames=tuple(remembered[0]),
        after_frames=tuple(remembered[1]),
    )


def _constant(text: bytes, position: int, memo: list[Any]) -> tuple[Any, int, bool] | None:
    """Return a value that must be equal in all events, where it ends, whether it is new."""
    match = _CONSTANT.match(text, position)
    if match is None:
        return None
    if match["known"]:
        return _known(match[0], memo), match.end(), False
    if match["pool"]:
        return (match["pool"][1], match["pool"][3]), match.end(), True
    if match["length"]:
        end = match.end() + match["length"][0]
        if text[end : end + 1] != b"\x94":
            return None
        return text[match.end() : end].decode("utf-8", "replace"), end + 1, True
    return None, match.end(), False


def _known(reference: bytes, memo: list[Any]) -> Any:
    if reference[0] == 0x68:
        return memo[reference[1]]
    return memo[int.from_bytes(reference[1:], "little")]


def _stack_at(reference: bytes, memo: list[Any]) -> Stack | None:
    """Return a stack that was read before, as text or as a list that becomes text now."""
    index = reference[1] if reference[0] == 0x68 else int.from_bytes(reference[1:], "little")
    value = memo[index]
    if type(value) is list:
        value = memo[index] = stack_of(value)
    return value if type(value) is Stack else None


def _number(text: bytes) -> int:
    code = text[0]
    if code == 0x4B:
        return text[1]
    if code == 0x4D:
        return int.from_bytes(text[1:], "little")
    return int.from_bytes(text[2:] if code == 0x8A else text[1:], "little", signed=True)
