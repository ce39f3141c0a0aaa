import json
from pathlib import Path

import pandas as pd
import pytest

from harness.analysis.frame import load
from harness.analysis.predictions import workload_of
from harness.schema.record import Outcome, Record, RecordError, to_json
from harness.schema.workload import Workload
from tests.analysis import planted


def _small() -> list[Record]:
    return planted.grid(depths=(1, 2), batches=(16, 32), modes=("train",))


def test_a_row_holds_the_record_exactly(tmp_path: Path) -> None:
    big = 2**53 + 1  # no float64 holds this
    step = Workload(depth=3, batch=32, norm="batch", dropout=0.25, accumulate=2)
    item = planted.record(step, noise=0.01, peak_live_bytes=big, rss_rise_bytes=-4096)
    planted.write(tmp_path / "depth_batch", [item])
    row = load(tmp_path).iloc[0]
    assert row["experiment"] == "depth_batch"
    assert (row["depth"], row["batch"], row["width"], row["mode"]) == (3, 32, 256, "train")
    assert row["peak_live_bytes"] == big
    assert row["rss_rise_bytes"] == -4096
    assert row["phases.forward.peak_live_bytes"] == planted.peak_bytes(3, 32)
    assert row["environment.torch"] == "9.9"
    assert row["environment.gpus"] == "[]"
    assert row["repeats"] == 3
    rises = [repeat.rss_rise_bytes or 0 for repeat in item.repeats]
    assert row["rss_rise_spread_bytes"] == max(rises) - min(rises) > 0
    assert not [name for name in row.index if "modules" in name]
    assert workload_of(row.to_dict()) == item.workload


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


def test_the_last_record_of_a_cell_of_an_experiment_wins(tmp_path: Path) -> None:
    good = _small()
    failed = planted.record(good[1].workload, outcome=Outcome.KILLED, saved_bytes=None)
    planted.write(tmp_path / "depth_batch", [failed, *good])
    planted.write(tmp_path / "width", good[:-1], tail=to_json(good[-1]))
    planted.write(tmp_path / "empty", [])
    frame = load(tmp_path)
    assert list(frame["experiment"]) == ["depth_batch"] * 4 + ["width"] * 4
    assert set(frame["outcome"]) == {"ok"}
    assert frame.attrs["notes"] == ()
    empty = load(tmp_path / "empty")
    assert empty.empty
    assert "peak_live_bytes" in empty


@pytest.mark.parametrize("tail", [b'{"schema": 1, "wor', b"\x00\x00\x00", b"{\n"])
def test_a_torn_last_line_is_skipped_and_reported(tmp_path: Path, tail: bytes) -> None:
    planted.write(tmp_path / "depth_batch", _small(), tail=tail)
    frame = load(tmp_path)
    assert len(frame) == 4
    assert frame.attrs["notes"] == (
        "depth_batch/records.jsonl: line 5, the last, is torn; skipped",
    )


def test_what_cannot_be_read_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"no records\.jsonl here"):
        load(tmp_path)
    newer = json.dumps(json.loads(to_json(_small()[0])) | {"schema": 99}).encode()
    planted.write(tmp_path, _small(), tail=newer)
    with pytest.raises(RecordError, match=r"records\.jsonl:5: .*newer harness"):
        load(tmp_path)
    planted.write(tmp_path, _small()[:1], tail=b"nonsense\n" + to_json(_small()[1]) + b"\n")
    with pytest.raises(RecordError, match=r"records\.jsonl:2: "):
        load(tmp_path)


def test_many_records_load_in_chunks_as_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted.write(tmp_path, planted.grid())
    whole = load(tmp_path)
    monkeypatch.setattr("harness.analysis.frame._CHUNK", 10)
    pd.testing.assert_frame_equal(load(tmp_path), whole)
