import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.analysis import AnalysisError
from harness.analysis.compare import EXACT, compare
from harness.analysis.frame import load
from harness.reporting.comparison import runs_text
from harness.schema.argument_checks import ArgumentError
from tests.analysis import planted


@pytest.fixture
def run(tmp_path: Path) -> pd.DataFrame:
    planted.write(tmp_path / "depth_batch", planted.grid(noise=0.01))
    return load(tmp_path)


def test_a_run_equals_itself(run: pd.DataFrame) -> None:
    result = compare(run, run)
    assert result.equal
    assert result.cells == len(run)
    equal = (
        r"The runs are equal\. All [\d,]+ exact metrics of the 126 cells in both runs are equal\."
    )
    assert re.match(equal, runs_text(result))


def test_one_byte_is_found_and_shown_to_the_byte(run: pd.DataFrame) -> None:
    other = run.copy()
    other["peak_live_bytes"] += (other.index == 5).astype("int64")
    result = compare(run, other)
    assert not result.equal
    row = result.different.iloc[0]
    assert (row["metric"], row["difference_bytes"]) == ("peak_live_bytes", 1)
    value = int(run["peak_live_bytes"].iloc[5])
    assert f"{value:,}  {value + 1:,}" in runs_text(result)
    assert re.search(
        r"The runs are not equal: 1 of [\d,]+ exact metrics differ\.\n", runs_text(result)
    )


def test_noise_is_no_difference_and_shows_its_spread(run: pd.DataFrame) -> None:
    other = run.copy()
    other["rss_rise_bytes"] = (other["rss_rise_bytes"].astype("float64") * 2).astype("Int64")
    other["wall_seconds"] *= 3
    result = compare(run, other)
    assert result.equal
    noisy = result.noisy
    assert list(noisy["metric"]) == ["rss_rise_bytes", "wall_seconds"]
    assert noisy["median_ratio"].iloc[0] == pytest.approx(2.0)
    assert noisy["high_ratio"].iloc[1] == pytest.approx(3.0)
    assert int(noisy["median_spread_a_bytes"].iloc[0]) > 0


def test_a_noisy_metric_that_is_ten_times_off_is_said(run: pd.DataFrame) -> None:
    large, small = 12 << 20, 200 << 10  # a small rise may be all noise
    run = run.assign(rss_rise_bytes=pd.array([large, small, *[large] * 124], dtype="Int64"))
    other = run.copy()
    other.loc[:1, "rss_rise_bytes"] = [large // 11, 0]
    result = compare(run, other)
    assert result.equal
    assert len(result.far_apart) == 1
    assert "More than 10 times off: rss_rise_bytes in" in str(result)
    assert result.far_apart_words in runs_text(result)
    assert compare(run, run).far_apart_words == ""


def test_cells_of_one_run_alone_and_other_outcomes_are_counted(run: pd.DataFrame) -> None:
    other = run.iloc[:-2].copy()
    other.loc[0, "outcome"] = "oom"
    result = compare(run, other)
    assert (result.only_a, result.only_b, len(result.outcomes)) == (2, 0, 1)
    assert not result.equal
    assert str(result).startswith(
        "The runs are not equal: 2 cells are only in the first run; 1 cell ended differently. All"
    )

    apart = compare(run[run["depth"] == 1], run[run["depth"] == 2])
    assert (apart.cells, apart.equal) == (0, False)


def test_two_devices_are_compared_cell_by_cell_in_what_both_have(run: pd.DataFrame) -> None:
    gpu = run.assign(device="cuda", workload_id="other")
    gpu["cuda.workspace_bytes"] = pd.array([1] * len(run), dtype="Int64")
    bare = run.assign(**{"cuda.workspace_bytes": pd.array([pd.NA] * len(run), dtype="Int64")})
    result = compare(bare, gpu)
    assert result.across == ("device",)
    assert result.cells == len(run)
    assert result.equal
    alone = compare(bare, gpu.assign(device="cpu"))
    assert set(alone.different["metric"]) == {"cuda.workspace_bytes"}
    assert not alone.equal


def test_runs_in_which_nothing_was_measured_are_not_equal(run: pd.DataFrame) -> None:
    failed = run.assign(outcome="crashed")
    failed[[*EXACT]] = pd.NA
    result = compare(failed, failed)
    assert not result.equal
    assert str(result) == (
        "The runs are not equal: no exact metric is in both, so nothing was compared."
    )


def test_what_cannot_be_compared_is_one_clear_line(run: pd.DataFrame) -> None:
    wrong: Any = object()
    with pytest.raises(ArgumentError, match="a folder or a data frame, got object"):
        compare(run, wrong)
    with pytest.raises(AnalysisError, match="several cells of this kind"):
        compare(pd.concat([run, run]), run)
