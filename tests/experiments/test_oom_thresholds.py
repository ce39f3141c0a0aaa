from pathlib import Path

import pytest

from experiments.oom_thresholds import questions
from harness.analysis.frame import load_files
from harness.measurement.limits.rlimit import data_segment_available
from harness.prediction.mlp.data_segment import solve_data_segment
from harness.reporting.figures import picture
from harness.reporting.progress import Lines
from harness.reporting.report import write_report
from harness.schema.experiment import Evidence, Size
from harness.schema.findings import Verdict
from harness.schema.threshold import THRESHOLDS, Headroom, Threshold, ThresholdQuestion
from harness.sweeps.experiment_files import find
from harness.sweeps.store import LineStore
from harness.sweeps.sweep import run
from tests.analysis import planted
from tests.experiments.verdicts import named

EXPERIMENT = find("oom_thresholds")


def answered(question: ThresholdQuestion, lost: float = 0.0) -> Threshold:
    """A threshold just where it is predicted; the default policy loses a share of it."""
    workload, budget = question.workload, question.budget_bytes
    predicted = solve_data_segment(workload, budget, "batch")
    assert predicted is not None
    pinned = workload.malloc == "pinned"
    largest = predicted if pinned else round(predicted * (1 - lost))
    parts = {"live_bytes": budget - 70, "rounding_bytes": 80, "small_bytes": -10}
    rest = {"library_bytes": 0, "unused_bytes": 0}
    return planted.threshold(
        workload, budget_bytes=budget, largest_fit=largest, smallest_fail=largest + 1,
        confirmed=True, predicted=predicted, live_bytes_predict=predicted + 3,
        headroom=Headroom(**parts, **rest) if pinned else None,
    )  # fmt: skip


def keep(folder: Path, size: Size) -> None:
    with LineStore(folder, Threshold) as store:
        for question in questions(size):
            store.append(answered(question, lost=0.3))


@pytest.mark.parametrize("size", list(Size))
def test_no_question_is_asked_twice(size: Size) -> None:
    request = [(one.workload.id, one.budget_bytes) for one in questions(size)]
    assert len(set(request)) == len(request)


def test_the_analysis_of_planted_thresholds_rules_and_draws(tmp_path: Path) -> None:
    folder = tmp_path / EXPERIMENT.name
    keep(folder, Size.DEFAULT)
    section = EXPERIMENT.analyse(Evidence(frame=load_files([]), folder=folder))
    deeper, predicted = section.claims
    assert deeper.verdict is predicted.verdict is Verdict.SUPPORTED
    assert "(depth + a)(batch + b) = c" in deeper.measured
    assert "falls in 10 of 10 steps" in deeper.number
    tables = {table.name: table.frame for table in section.tables}
    assert len(tables["thresholds"]) == len(questions(Size.DEFAULT))
    assert tables["policies"]["lost_percent"].round(1).tolist() == [30.0] * 3
    assert (tables["frontier"]["worst_error_percent"] < 0.5).all()
    for figure in section.figures:
        assert picture(figure).svg.startswith("<?xml")
    assert write_report(tmp_path).is_file()


def test_a_quick_run_is_enough_for_a_section_and_says_what_it_lacks(tmp_path: Path) -> None:
    folder = tmp_path / EXPERIMENT.name
    keep(folder, Size.QUICK)
    section = EXPERIMENT.analyse(Evidence(frame=load_files([]), folder=folder))
    assert any("Too few depths" in text for text in section.text)
    assert "falls in 2 of 2 steps" in named(section, "Training deeper networks").number


def test_a_run_that_is_complete_asks_nothing_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not data_segment_available()[0]:
        pytest.skip(data_segment_available()[1])
    folder = tmp_path / EXPERIMENT.name
    keep(folder, Size.QUICK)
    before = (folder / THRESHOLDS).read_bytes()
    run(EXPERIMENT, Size.QUICK, tmp_path, Lines())
    assert (folder / THRESHOLDS).read_bytes() == before
    assert "3 cells, 3 saved already" in capsys.readouterr().err
