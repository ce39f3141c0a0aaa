from pathlib import Path

from harness.analysis.frame import read_lines
from harness.reporting.progress import Lines
from harness.schema.experiment import Experiment, Size
from harness.schema.findings import Section
from harness.schema.record import Record, from_json
from harness.schema.workload import Grid, Workload
from harness.sweeps.sweep import run

CELLS = Grid(base=Workload(width=8, in_features=8), axes={"depth": [1, 2, 3], "batch": [2, 3, 5]})
EXPERIMENT = Experiment(
    name="probe", title="", question="", cells=lambda size: CELLS,
    analyse=lambda evidence: Section(), repeats=1,
    traced=lambda size: [Workload(width=8, in_features=8, depth=2, batch=3)],
)  # fmt: skip
EXACT = ("workload_id", "outcome", "saved_bytes", "peak_live_bytes", "phases", "categories_at_peak")


def exact(records: list[Record]) -> list[tuple[object, ...]]:
    return [tuple(getattr(record, name) for name in EXACT) for record in records]


def test_a_sweep_measures_every_cell_once_and_then_nothing(tmp_path: Path) -> None:
    run(EXPERIMENT, Size.QUICK, tmp_path, Lines())
    path = tmp_path / "probe" / "records.jsonl"
    before = path.read_bytes()
    run(EXPERIMENT, Size.QUICK, tmp_path, Lines())
    assert path.read_bytes() == before
    assert [r.workload.id for r in read_lines(path, from_json)] == [cell.id for cell in CELLS]
    events = list((tmp_path / "probe" / "events").iterdir())
    assert [file.stem for file in events] == [Workload(width=8, in_features=8, depth=2, batch=3).id]
