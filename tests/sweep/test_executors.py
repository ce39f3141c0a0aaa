import os
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from harness.analysis.frame import read_lines
from harness.prediction.mlp.predict_workload import predict
from harness.processes.limits.machine_memory import limit_bytes
from harness.reporting.progress import Lines
from harness.schema.experiment import Size
from harness.schema.record import Outcome, Record, from_json
from harness.schema.workload import Workload
from harness.sweeps.executors import Cell, Executor, ExecutorError, Measured, make_executor
from harness.sweeps.executors.local import LocalExecutor
from harness.sweeps.sweep import run
from tests.sweep.test_sweep import CELLS, EXPERIMENT, exact

TINY = Workload(width=8, in_features=8, batch=4)


def swept(folder: Path, executor: Executor | None) -> list[Record]:
    """Return the records of the little sweep, in the grid's order."""
    run(EXPERIMENT, Size.QUICK, folder, Lines(), executor=executor)
    order = [cell.id for cell in CELLS]
    records = list(read_lines(folder / "probe" / "records.jsonl", from_json))
    return sorted(records, key=lambda record: order.index(record.workload_id))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """The little sweep, one cell at a time."""
    return swept(tmp_path_factory.mktemp("alone"), None)


@pytest.fixture(scope="module")
def two() -> Iterator[LocalExecutor]:
    """Two cells at once, for all tests that leave it whole: its servers take seconds to start."""
    executor = LocalExecutor(2)
    yield executor
    executor.close()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "jobs"), [("local", 2), ("in-process", 1)])
def test_other_executors_give_equal_exact_metrics_and_no_disturbed_ones(
    name: str, jobs: int, two: Executor, alone: list[Record], tmp_path: Path
) -> None:
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    for record in alone:
        assert (record.environment["executor"], record.environment["jobs"]) == ("local", 1)
        assert record.rss_rise_bytes is not None
        assert len(record.repeats) == EXPERIMENT.repeats
    records = swept(tmp_path, two if name == "local" else make_executor(name, jobs=jobs))
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == shown, "a job hid the GPU from this process"
    assert exact(records) == exact(alone)
    for record in records:
        assert record.rss_rise_bytes is record.wall_seconds is None
        assert record.repeats == ()
        assert record.passes == {"peak_live_bytes": "trace"} | record.passes
        assert not {"rss_rise_bytes", "wall_seconds"} & record.passes.keys()
        assert (record.environment["executor"], record.environment["jobs"]) == (name, jobs)


@pytest.mark.parametrize(
    ("cell", "share", "together"),
    [(TINY, 0.6, 1), (TINY, 0.4, 2), (TINY.replace(device="cuda"), 0.0, 1)],
)
def test_cells_wait_where_memory_or_the_gpu_is_taken(
    cell: Workload, share: float, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    running: list[int] = []
    most: list[int] = []

    def measure(*arguments: object, **named: object) -> Measured:
        running.append(1)
        most.append(len(running))
        time.sleep(0.1)
        running.pop()
        return Record(workload_id=cell.id, workload=cell, outcome=Outcome.OK), None

    monkeypatch.setattr("harness.sweeps.executors.local.Slot.measure", measure)
    executor = LocalExecutor(4)
    needed_bytes = int(share * limit_bytes())
    request = Cell(workload=cell, repeats=1, deadline_seconds=300, needed_bytes=needed_bytes)
    futures = [executor.submit(request, 1) for _ in range(6)]
    for future in futures:
        future.result()
    executor.close()
    assert max(most) == together


@pytest.mark.slow
def test_a_cell_predicted_not_to_fit_is_recorded_as_refused_and_not_run(
    two: LocalExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(two, "room_bytes", lambda workload: 2000)
    records = swept(tmp_path, two)
    assert len(records) == len(CELLS)
    for record in records:
        needed_bytes = predict(record.workload).peak_live_bytes
        assert needed_bytes is not None
        refused = needed_bytes > 2000
        assert (record.outcome is Outcome.REFUSED) == refused
        assert (record.attempt == 0) == refused
        if refused:
            assert record.peak_live_bytes is None
            assert record.evidence["needed_bytes"] == needed_bytes
            assert record.evidence["room_bytes"] == 2000
    assert {record.outcome for record in records} == {Outcome.OK, Outcome.REFUSED}


@pytest.mark.slow
def test_an_executor_that_is_gone_stops_cleanly_and_the_sweep_resumes(
    two: LocalExecutor, alone: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its second cell ends with an error while others have been measured."""
    submit = two.submit

    def failing(cell: Cell, attempt: int) -> "Future[Measured]":
        if cell.workload != list(CELLS)[1]:
            return submit(cell, attempt)
        future: Future[Measured] = Future()
        future.set_exception(ExecutorError("the scheduler is gone"))
        return future

    monkeypatch.setattr(two, "submit", failing)
    with pytest.raises(ExecutorError, match="the scheduler is gone"):
        swept(tmp_path, two)
    monkeypatch.undo()
    assert exact(swept(tmp_path, two)) == exact(alone)


def test_wrong_combinations_are_refused_by_name() -> None:
    with pytest.raises(ExecutorError, match="only with --executor dask"):
        make_executor("local", scheduler="tcp://127.0.0.1:1")
    with pytest.raises(ExecutorError, match="one cell at a time"):
        make_executor("in-process", jobs=2)
