"""Hostile and damaged files are refused in one line, and nothing in them runs."""

import gzip
import pickle
import pickletools
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.snapshots.file_bytes import SnapshotError, read_bytes
from harness.snapshots.snapshot import read_recording
from harness.snapshots.unpickler import load_builtins
from tests.property_size import examples

PLAIN: dict[str, Any] = {
    "a": [1, 255, 256, 65535, 65536, -1, 2**31, 2**47, 0.5, None, True, False],
    "t": [(0, 0), (1, 256), (65536, -1), (2**40, 2**63)],
    "long text": "x" * 300,
    "nested": [{"k": {"k": [{}]}}] * 3,
}


def load(folder: Path, data: bytes) -> Any:
    path = folder / "file.pickle"
    path.write_bytes(data)
    return load_builtins(read_bytes(path))


def refuse(folder: Path, data: bytes) -> str:
    with pytest.raises(SnapshotError) as caught:
        load(folder, data)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    assert len(message) < 200
    return message


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_data_is_read_as_it_is(tmp_path: Path, protocol: int) -> None:
    assert load(tmp_path, pickle.dumps(PLAIN, protocol)) == PLAIN


class Runs:
    """Would make a file if anything unpickled it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_reduce_that_would_make_a_file_is_refused_and_makes_none(
    tmp_path: Path, protocol: int
) -> None:
    made = tmp_path / "made"
    data = pickle.dumps({"device_traces": [Runs(made)]}, protocol)
    assert "is no data of a recording; nothing in it was run" in refuse(tmp_path, data)
    assert not made.exists()
    pickle.loads(data)
    assert made.exists(), "the file would have done it"


@pytest.mark.parametrize(
    "code",
    [
        b"cos\nsystem\n.", b"(S'x'\nios\nsystem\n.", b"\x8c\x02os\x8c\x06system\x93.", b"]R.",
        b"]}b.", b")\x81.", b")}\x92.", b"\x82\x01.", b"Pname\n.", b"]Q.", b"I1\n.", b"\x8f.",
        b"\x97.", b"\x96\x00\x00\x00\x00\x00\x00\x00\x00.", b"\xff.", b"]\x85.", b"K\x01]\x86.",
        b"K\x01K\x01\x86K\x01\x86.", b"(K\x01K\x01t.", b").",
    ],
)  # fmt: skip
def test_every_opcode_that_does_more_than_hold_data_is_refused(tmp_path: Path, code: bytes) -> None:
    message = refuse(tmp_path, b"\x80\x04" + code)
    assert "is no data of a recording; nothing in it was run" in message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a pickle"), (b"hello", "not a pickle"), (b"\x80\x04]", "truncated"),
        (b"\x80\x04]r\xff\xff\xff\x7f.", "damaged"),
        (b"\x80\x04\x8d" + b"\xff" * 8, "bytes long"),
        (b"\x80\x04\x8a\xff" + b"\x01" * 255 + b".", "more than 64 bits"),
        (b"\x80\x04u.", "damaged"), (b"\x80\x04a.", "damaged"), (b"\x80\x04](.", "damaged"),
        (b"\x80\x04}(NNNu.", "damaged"), (b"\x80\x06N.", "not a pickle of protocol 2 to 5"),
        (b"\x80\x04.", "damaged"), (b"\x80\x04h\x07.", "damaged"), (b"\x80\x04}]]s.", "damaged"),
        (b"\x80\x04\x95\xff\xff.", "truncated"),
        (b"\x1f\x8b" + b"\x00" * 20, "cannot read the file|damaged"),
        (gzip.compress(pickle.dumps(PLAIN))[:-20], "truncated or damaged"),
    ],
)  # fmt: skip
def test_damaged_files_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    assert re.search(message, refuse(tmp_path, data))


def test_a_file_that_is_not_there_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="cannot read the file: No such file"):
        read_bytes(tmp_path / "none.pickle")


def test_a_refused_recording_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(SnapshotError, match=r"notes\.txt': no memory snapshot"):
        read_recording(tmp_path / "notes.txt")


@pytest.mark.slow
@pytest.mark.parametrize("unit", [b"]", b"}", b"(", b"]a", b"}\x94", b"]\x94a"])
def test_a_gigabyte_of_nothing_is_refused_before_it_grows(tmp_path: Path, unit: bytes) -> None:
    data = b"\x80\x04]" + unit * ((16 << 20) // len(unit)) + b"."
    message = refuse(tmp_path, data)
    (position,) = re.findall(r"than its size explains, by byte (\d+)", message)
    # At least 64 bytes for each unit: 16 MiB and 24 for each byte read are soon used up.
    assert int(position) * (64 / len(unit) - 24) <= (16 << 20) + (1 << 20)


def test_a_tuple_too_deep_to_hash_is_refused(tmp_path: Path) -> None:
    deep = b"K\x01K\x01\x86" + b"K\x01\x86" * 200_000
    assert "TUPLE2 at byte 10 of the pickle is no data of a recording" in refuse(
        tmp_path, b"\x80\x04}" + deep + b"Ns."
    )


def test_keys_that_may_share_one_hash_are_refused(tmp_path: Path) -> None:
    """A file of 340 kB whose 20,000 pairs have one hash took five seconds, in C."""
    numbers = range(5000)
    pairs = b"".join(b"M%sK\x00\x86N" % number.to_bytes(2, "little") for number in numbers)
    data = b"\x80\x04}(" + pairs + b"u."
    assert "more than 4,096 different pairs of numbers" in refuse(tmp_path, data)


def test_a_list_that_holds_itself_is_read_without_end_or_harm(tmp_path: Path) -> None:
    value = load(tmp_path, b"\x80\x04]\x94h\x00a.")
    assert value[0] is value


@settings(max_examples=examples(400))
@given(changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1))
def test_a_file_with_bytes_changed_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(pickle.dumps(PLAIN))
    for position, value in changes:
        data[position % len(data)] = value
    loaded: Any = None
    refusal = ""
    try:
        loaded = load(tmp_path_factory.getbasetemp(), bytes(data))
    except SnapshotError as error:
        refusal = str(error)
    assert "\n" not in refusal
    opcodes = {opcode.name for opcode, *_ in pickletools.genops(pickle.dumps(loaded))}
    assert not opcodes & {"GLOBAL", "STACK_GLOBAL"}, "all of it is built-in data"
