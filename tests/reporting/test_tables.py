import pandas as pd
import pytest

from harness.reporting.tables import (
    cell,
    escape_markdown,
    heading,
    shown,
    table_files,
    to_markdown,
)
from harness.schema.findings import Table


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("peak_live_bytes", 5_824_516, "5.555 MiB"), ("peak_live_bytes", pd.NA, "–"),
        ("depth", 4096, "4,096"), ("estimate", 3184.04, "3,184.0"), ("ratio", 1.23456, "1.235"),
        ("r2", 0.999987, "0.99999"), ("p", 3e-55, "< 0.0001"), ("p", 0.0123, "0.0123"),
        ("ratio", float("nan"), "–"), ("outcome", "ok", "ok"),
    ],
)  # fmt: skip
def test_cells_read_well(column: str, value: object, text: str) -> None:
    assert cell(column, value) == text


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("peak_live_bytes", "peak live"), ("cuda.reserved_peak_bytes", "CUDA reserved peak"),
        ("difference_percent", "difference %"), ("prediction_bytes", "inference"),
        ("within_1_±_0.05", "within 1 ± 0.05"),
    ],
)  # fmt: skip
def test_headings_are_words(column: str, text: str) -> None:
    assert heading(column) == text


def test_markdown_aligns_numbers_and_escapes_text() -> None:
    frame = pd.DataFrame({"name": ["a|b <i>"], "peak_live_bytes": [2048]})
    table = shown(Table(name="t", caption="c", frame=frame))
    assert to_markdown(table).splitlines() == [
        "| name | peak live |",
        "| --- | ---: |",
        "| a\\|b &lt;i\\> | 2 KiB |",
    ]


def test_line_breaks_and_ampersands_cannot_break_markdown() -> None:
    assert escape_markdown("a\n# b & &lt;") == "a \\# b &amp; &amp;lt;"


def test_a_table_is_the_same_on_every_processor() -> None:
    """Sums of fractions end in other digits with AVX-512 than with AVX2."""
    here = pd.DataFrame({"a_bytes": [267200.00000000006, 0.1], "c": [0.0226698257681, None]})
    there = pd.DataFrame({"a_bytes": [267200.0, 0.1], "c": [0.0226698257679, None]})
    texts = [
        table_files(Table(name="one", caption="A caption.", frame=frame), "one")
        for frame in (here, there)
    ]
    assert texts[0] == texts[1]
    assert texts[0]["one.csv"] == b"a_bytes,c\n267200.0,0.0226698258\n0.1,\n"
