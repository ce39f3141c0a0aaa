import json
from pathlib import Path

import pandas as pd
import pytest

from harness.analysis.frame import load
from harness.analysis.predictions import workload_of
from harness.schema.record import Outcome, Record, RecordError, to_json
from harness.schema.workload import Workload
from tests.analysis import planted


def _small(**changes: object) -> list:  # type: ignore[type-arg]
    return planted.grid(depths=(1, 2), batches=(16, 32), modes=("train",))


def test_a_row_holds_the_record_exactly(tmp_path: Path) -> None:
    big = 2**53 + 1  # no float64 holds this
    item = planted.record(Workload(depth=3, batch=32), peak_live_bytes=big, rss_rise_bytes=-4096)
    planted.write(tmp_path / "depth_batch", [item])
    row = load(tmp_path).iloc[0]
    assert row["experiment"] == "depth_batch"
    assert (row["depth"], row["batch"], row["width"], row["mode"]) == (3, 32, 256, "train")
    assert row["peak_live_bytes"] == big
    assert row["rss_rise_bytes"] == -4096
    assert row["phases.forward.peak_live_bytes"] == planted.peak_bytes(3, 32)
    assert row["categories_at_peak.parameter"] == planted.parameter_bytes(3)
    assert row["environment.torch"] == "9.9"
    assert row["environment.gpus"] == "[]"
    assert row["repeats"] == 3


def test_a_row_returns_its_workload(tmp_path: Path) -> None:
    workload = Workload(hidden=(5, 7), norm="batch", dropout=0.25, accumulate=2)
    planted.write(
        tmp_path, [Record(workload_id=workload.id, workload=workload, outcome=Outcome.OK)]
    )
    assert workload_of(load(tmp_path).iloc[0].to_dict()) == workload


def test_missing_metrics_are_missing_and_bytes_are_whole(tmp_path: Path) -> None:
    item = planted.record(Workload(), outcome=Outcome.OOM, saved_bytes=None, cuda=None)
    planted.write(tmp_path, [item])
    frame = load(tmp_path)
    assert frame["saved_bytes"].isna().all()
    assert frame["cuda.reserved_peak_bytes"].isna().all()
    assert frame["hidden"].isna().all()
    byte_columns = [name for name in frame.columns if str(name).endswith("_bytes")]
    assert len(byte_columns) > 15
    assert {str(frame[name].dtype) for name in byte_columns} == {"Int64"}


def test_modules_stay_out_of_the_frame(tmp_path: Path) -> None:
    planted.write(tmp_path, _small())
    assert not [name for name in load(tmp_path).columns if "modules" in str(name)]


def test_spread_is_largest_minus_smallest_over_repeats(tmp_path: Path) -> None:
    item = planted.record(Workload(depth=8, batch=1024), noise=0.01)
    planted.write(tmp_path, [item])
    rises = [repeat.rss_rise_bytes or 0 for repeat in item.repeats]
    assert load(tmp_path).iloc[0]["rss_rise_spread_bytes"] == max(rises) - min(rises) > 0


def test_the_last_record_of_a_cell_wins(tmp_path: Path) -> None:
    good = _small()
    failed = planted.record(good[1].workload, outcome=Outcome.KILLED, saved_bytes=None)
    planted.write(tmp_path, [failed, *good])
    frame = load(tmp_path)
    assert len(frame) == len(good)
    assert set(frame["outcome"]) == {"ok"}


def test_equal_cells_of_two_experiments_are_two_rows(tmp_path: Path) -> None:
    for name in ("depth_batch", "width"):
        planted.write(tmp_path / name, _small())
    frame = load(tmp_path)
    assert len(frame) == 8
    assert list(frame["experiment"].unique()) == ["depth_batch", "width"]


@pytest.mark.parametrize("tail", [b'{"schema": 1, "wor', b"\x00\x00\x00", b"{\n"])
def test_a_torn_last_line_is_skipped_and_reported(tmp_path: Path, tail: bytes) -> None:
    planted.write(tmp_path / "depth_batch", _small(), tail=tail)
    frame = load(tmp_path)
    assert len(frame) == 4
    assert frame.attrs["notes"] == (
        "depth_batch/records.jsonl: line 5, the last, is torn; skipped",
    )


def test_a_whole_last_line_without_its_newline_counts(tmp_path: Path) -> None:
    records = _small()
    planted.write(tmp_path, records[:3], tail=to_json(records[3]))
    frame = load(tmp_path)
    assert len(frame) == 4
    assert frame.attrs["notes"] == ()


def test_a_bad_line_inside_names_file_and_line(tmp_path: Path) -> None:
    records = _small()
    text = b"".join([to_json(records[0]), b"\nnonsense\n", to_json(records[1]), b"\n"])
    (tmp_path / "records.jsonl").write_bytes(text)
    with pytest.raises(RecordError, match=r"records\.jsonl:2: "):
        load(tmp_path)


def test_a_last_line_of_a_newer_schema_is_no_torn_line(tmp_path: Path) -> None:
    newer = json.loads(to_json(_small()[0])) | {"schema": 99}
    planted.write(tmp_path, _small(), tail=json.dumps(newer).encode())
    with pytest.raises(RecordError, match=r"records\.jsonl:5: .*newer harness"):
        load(tmp_path)


def test_no_records_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"no records\.jsonl here"):
        load(tmp_path)


def test_an_empty_file_is_an_empty_frame_with_every_column(tmp_path: Path) -> None:
    planted.write(tmp_path, [])
    frame = load(tmp_path)
    assert frame.empty
    assert "peak_live_bytes" in frame


def test_many_records_load_in_chunks_as_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted.write(tmp_path, planted.grid())
    whole = load(tmp_path)
    monkeypatch.setattr("harness.analysis.frame._CHUNK", 10)
    pd.testing.assert_frame_equal(load(tmp_path), whole)
