import json
import shutil
from pathlib import Path

import pytest

from harness.schema.errors import HarnessError
from harness.schema.record import RECORDS, Outcome, Record, SchemaError, to_json
from harness.schema.workload import Workload
from harness.sweeps.store import MAX_LOSSES, REJECTED, LineStore, StoreError
from harness.sweeps.sweep import _refuse_other_device


def record(batch: int, outcome: Outcome = Outcome.OK) -> Record:
    workload = Workload(batch=batch)
    return Record(workload_id=workload.id, workload=workload, outcome=outcome)


def filled(folder: Path, count: int = 3) -> None:
    with LineStore(folder, Record) as store:
        for batch in range(1, count + 1):
            store.append(record(batch))


def test_a_last_line_without_its_line_feed_is_a_record_and_is_never_glued(tmp_path: Path) -> None:
    filled(tmp_path)
    path = tmp_path / RECORDS
    path.write_bytes(path.read_bytes()[:-1])
    with LineStore(tmp_path, Record) as store:
        assert store.repairs == []
        store.append(record(99))
    assert path.read_bytes().splitlines()[2:] == [to_json(record(3)), to_json(record(99))]


def test_garbled_lines_are_set_aside_and_their_cells_run_again(tmp_path: Path) -> None:
    filled(tmp_path)
    path = tmp_path / RECORDS
    lines = path.read_bytes().split(b"\n")
    lines[1] = lines[1].replace(b'"ok"', b'"\xff\x00"')
    path.write_bytes(b"\n".join(lines))
    with LineStore(tmp_path, Record) as store:
        assert store.is_finished(record(1).workload_id)
        assert not store.is_finished(record(2).workload_id)
        assert "1 damaged line(s)" in store.repairs[0]
    assert (tmp_path / REJECTED).read_bytes() == lines[1] + b"\n"


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    filled(tmp_path, 1)
    path = tmp_path / RECORDS
    newer = json.dumps(json.loads(path.read_bytes()) | {"schema": 2}) + "\n"
    path.write_text(newer)
    with pytest.raises(SchemaError, match="a newer harness wrote it"), LineStore(tmp_path, Record):
        pass
    assert path.read_text() == newer


def test_accidents_are_tried_once_more_and_losses_counted_apart_from_them(tmp_path: Path) -> None:
    lost, killed = record(1, Outcome.LOST), record(1, Outcome.KILLED)
    with LineStore(tmp_path, Record) as store:
        for item in [*[lost] * (MAX_LOSSES - 1), killed]:
            store.append(item)
            assert not store.is_finished(lost.workload_id)
    with LineStore(tmp_path, Record) as again:
        assert again.attempts(lost.workload_id) == MAX_LOSSES
        assert not again.is_finished(lost.workload_id)
        for item in (killed, *[record(2, Outcome.LOST)] * MAX_LOSSES, record(3, Outcome.OOM)):
            again.append(item)
        assert all(again.is_finished(record(batch).workload_id) for batch in (1, 2, 3))


def test_a_file_lost_after_the_last_append_is_no_success(tmp_path: Path) -> None:
    store = LineStore(tmp_path / "run", Record).__enter__()
    store.append(record(1))
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(StoreError, match="while"):
        store.__exit__(None, None, None)


def test_a_write_that_does_not_fit_leaves_no_part_behind(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="no limits on the size of files")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with LineStore(tmp_path, Record) as store:
        store.append(record(1))
        size = (tmp_path / RECORDS).stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, before[1]))
        try:
            with pytest.raises(StoreError, match=r"records\.jsonl"):
                store.append(record(2))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / RECORDS).read_bytes() == to_json(record(1)) + b"\n"


def test_records_of_another_device_are_not_added_to(tmp_path: Path) -> None:
    folder = tmp_path / "accumulation"
    folder.mkdir()
    (folder / "records.jsonl").write_text(json.dumps({"workload": {"device": "cuda"}}) + "\n")
    with pytest.raises(HarnessError, match="device cuda"):
        _refuse_other_device(folder, "cpu")
    _refuse_other_device(folder, "cuda")
    _refuse_other_device(tmp_path / "none yet", "cpu")
