import pandas as pd
import pytest

from harness.analysis.rss_agreement import next_to_trace
from tests.analysis import planted


def _frame(off: float) -> pd.DataFrame:
    cells = planted.CELLS
    peak = [planted.peak_bytes(*cell) for cell in cells]
    start = [planted.start_bytes(*cell) for cell in cells]
    rise = [round((a - b) * (1 + off)) for a, b in zip(peak, start, strict=True)]
    frame = pd.DataFrame(cells, columns=["depth", "batch"]).assign(
        outcome="ok", dtype="float32", width=256, rss_rise_spread_bytes=4096
    )
    # The gradients of the step before; records of old start there, and have no other start.
    late = [pd.NA if number % 2 else size for number, size in enumerate(start)]
    early = [size if number % 2 else size + 10**9 for number, size in enumerate(start)]
    starts = pd.DataFrame({"live_at_start_bytes": early, "live_before_forward_bytes": late})
    frame = frame.join(starts)
    return frame.assign(peak_live_bytes=peak, rss_rise_bytes=rise).convert_dtypes()


def test_big_rises_are_compared_with_the_trace_and_those_that_miss_are_listed() -> None:
    table = next_to_trace(_frame(0.01))
    rises = {cell: planted.peak_bytes(*cell) - planted.start_bytes(*cell) for cell in planted.CELLS}
    expected = [cell for cell, rise in rises.items() if rise > 16_000_000]
    assert list(zip(table["depth"], table["batch"], strict=True)) == expected
    assert table["difference_percent"].tolist() == pytest.approx([1.0] * len(expected), abs=1e-3)
    frame = _frame(0.0)
    at = frame.index[(frame["depth"] == 64) & (frame["batch"] == 4096)][0]
    frame.loc[at, "rss_rise_bytes"] *= 2
    table = next_to_trace(frame)
    missed = table[table["difference_percent"].abs() > 2]
    assert len(missed) == 1
    assert missed.iloc[0]["difference_percent"] == pytest.approx(100.0)
    assert missed.iloc[0]["from_the_heap"] == "no"
