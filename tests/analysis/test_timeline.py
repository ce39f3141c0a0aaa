from pathlib import Path

import pandas as pd
import pytest

from harness.analysis import AnalysisError
from harness.analysis.frame import read_events
from harness.plots.step_timeline import live_by_category, thin
from harness.schema.workload import Workload
from tests.analysis import planted


@pytest.fixture
def events(tmp_path: Path) -> pd.DataFrame:
    planted.write_events(tmp_path, Workload())
    return read_events(tmp_path / "events" / f"{Workload().id}.csv")


def test_each_category_is_what_was_taken_less_what_was_returned(events: pd.DataFrame) -> None:
    table = live_by_category(events)
    assert len(table) == 9  # the state before the step, and its eight events
    start, peak, end = table.iloc[0], table.iloc[4], table.iloc[-1]
    assert (start["parameter"], start["gradient"], start["input"]) == (4000, 4000, 1000)
    assert (start["activation"], start["live_bytes"]) == (0, 9000)
    assert (peak["activation"], peak["temporary"], peak["live_bytes"]) == (1200, 900, 7100)
    assert (end["gradient"], end["activation"], end["live_bytes"]) == (4000, 0, 9000)
    assert list(table["phase"].unique()) == ["optimizer", "forward", "backward"]
    assert list(table["live_bytes"]) == list(events["live_bytes"][4:])


def test_thinning_keeps_peak_and_ends(events: pd.DataFrame) -> None:
    table = live_by_category(events)
    long = pd.concat([table] * 500, ignore_index=True).assign(event=range(4500))
    short = thin(long, most=300)
    assert len(short) <= 302
    assert short["live_bytes"].max() == long["live_bytes"].max()
    assert short["event"].iloc[[0, -1]].tolist() == [0, 4499]
    assert thin(table) is table


def test_a_file_that_holds_no_events_or_wrong_ones_is_refused(
    tmp_path: Path, events: pd.DataFrame
) -> None:
    off = events.assign(live_bytes=events["live_bytes"] + (events.index == 3))
    magic = events.replace({"category": {"input": "magic"}})
    path = tmp_path / "bad.csv"
    for text, why in (
        (off.to_csv(index=False), "live_bytes is not the running sum"),
        (magic.to_csv(index=False), r"bad\.csv: unknown categories: magic"),
        *((text, r"bad\.csv: ") for text in ("", "order,step\n", "order,step\n1,2\n")),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(AnalysisError, match=why):
            read_events(path)
