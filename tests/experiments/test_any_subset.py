"""Any subset of an experiment's records, however each ended, is analysed or refused in words."""

import json
import random
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness.analysis import AnalysisError
from harness.analysis.evidence import section_of
from harness.reporting.figures import picture
from harness.schema.experiment import Size
from harness.schema.metrics import Metrics
from harness.schema.record import Outcome
from harness.sweeps.experiment_files import find, names_found

RESULTS = Path(__file__).parents[2] / "results"
DRAWS = 4
"""Random sets of records of each experiment; their seeds are 0, 1, ... ."""

METRICS = {*Metrics.__struct_fields__, "largest_fit", "smallest_fail", "predicted", "headroom"}
"""Fields that may be missing from a line that ended well."""
RESULT = METRICS | {"metrics", "result", "counted"}
"""Fields that a line never has if it did not end well."""

Line = dict[str, Any]


def failed(line: Line, outcome: Outcome) -> Line:
    kept = {key: value for key, value in line.items() if key != "repeats"}
    return kept | dict.fromkeys(RESULT & kept.keys()) | {"outcome": outcome.value}


def changed(lines: list[Line], choose: random.Random) -> list[Line]:
    """Return a random subset of ``lines``, a random part of which failed or lack metrics."""
    count = choose.randint(0, choose.choice([8, 34, len(lines)]))
    chosen = [line for line in lines if choose.random() * len(lines) < count]
    bad = [outcome for outcome in Outcome if outcome is not Outcome.OK]
    failing, lacking = choose.choice([0.0, 0.1, 0.5]), choose.choice([0.0, 0.3])

    def disturbed(line: Line) -> Line:
        if choose.random() < failing:
            return failed(line, choose.choice(bad))
        share = 0.3 if choose.random() < lacking else 0
        lost = [key for key in sorted(METRICS & line.keys()) if choose.random() < share]
        return line | dict.fromkeys(lost)

    return [*map(disturbed, chosen)]


def written(name: str, folder: Path, change: Callable[[list[Line]], Iterable[Line]]) -> Path:
    """Write an experiment's reference lines into ``folder``, as ``change`` returns them."""
    run = "reference-cuda-dry-run" if find(name).gpu_alone else "reference-cpu"
    sources = sorted((RESULTS / run / name).glob("*.jsonl"))
    if not sources:
        pytest.skip(f"no reference run of {name} is committed")
    for source in sources:
        lines = [json.loads(line) for line in source.read_text().splitlines()]
        text = "".join(f"{json.dumps(line)}\n" for line in change(lines))
        (folder / source.name).write_text(text)
    events = RESULTS / run / name / "events"
    if events.is_dir():
        (folder / "events").symlink_to(events)
    return folder


@pytest.mark.parametrize("name", names_found())
def test_no_experiment_measures_a_cell_twice(name: str) -> None:
    for size in Size:
        cells = [cell.id for cell in find(name).cells(size)]
        assert len(set(cells)) == len(cells)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * (n != "training_run")) for n in names_found()],
)
def test_any_subset_with_any_outcomes_is_analysed_or_refused(name: str, tmp_path: Path) -> None:
    for seed in range(DRAWS):
        folder = tmp_path / str(seed)
        folder.mkdir()
        choose = random.Random(f"{name} {seed}")
        written(name, folder, partial(changed, choose=choose))
        with suppress(AnalysisError):
            section, _ = section_of(find(name), folder)
            assert seed or all(picture(figure).svg for figure in section.figures)


def batch(line: Line) -> int:
    return int((line["job"]["arguments"] if "job" in line else line["workload"])["batch"])


@pytest.mark.slow
@pytest.mark.parametrize("name", names_found())
def test_cells_that_ran_out_of_memory_leave_the_smaller_ones_their_section(
    name: str, tmp_path: Path
) -> None:
    def change(lines: list[Line]) -> Iterable[Line]:
        batches = sorted({batch(line) for line in lines})
        large = batches[-1] if len(batches) > 2 else 10**9
        for line in lines:
            yield failed(line, Outcome.OOM) if batch(line) >= large else line

    section, _ = section_of(find(name), written(name, tmp_path, change))
    assert section.claims
    assert all(picture(figure).svg for figure in section.figures)


@pytest.mark.parametrize("name", names_found())
def test_records_that_all_failed_are_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    folder = written(name, tmp_path, lambda lines: [failed(one, Outcome.OOM) for one in lines])
    with pytest.raises(AnalysisError) as refused:
        section_of(find(name), folder)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) > 10
