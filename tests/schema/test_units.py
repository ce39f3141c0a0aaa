import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.schema.units import format_bytes, parse_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("256MiB", 268_435_456), ("1.5 GiB", 1_610_612_736), ("1000B", 1000), ("24G", 24 << 30),
        ("24 g", 24 << 30), ("256M", 256 << 20), ("64mb", 64_000_000), ("2kb", 2000), ("7 B", 7),
        ("21.96GiB", 23_579_370_455), ("20.6MiB", 21_600_665), ("1.3B", 1),
    ],
)  # fmt: skip
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "MiB", "-1MiB", "0B", "0.3B", "1e9B", "5 parsecs", "9" * 30 + "B", "NaN"],
)
def test_what_is_no_size_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        parse_bytes(text)
    with pytest.raises(ValueError, match="'256' has no unit; write 256MiB or 256GiB, or 256B"):
        parse_bytes("256")


@given(st.integers(1, 2**62))
def test_a_shown_size_is_within_its_four_digits(size: int) -> None:
    value, unit = format_bytes(size).split()
    factor = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}[unit]
    assert float(value) * factor == pytest.approx(size, rel=5e-4)


@pytest.mark.parametrize(
    ("size", "shown"),
    [(1023, "1023 B"), (1024, "1 KiB"), (1 << 20, "1 MiB"), (-(1 << 30), "-1 GiB")],
)
def test_a_size_that_is_one_unit_is_shown_in_that_unit(size: int, shown: str) -> None:
    assert format_bytes(size) == shown
