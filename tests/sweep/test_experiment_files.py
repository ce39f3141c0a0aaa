"""Experiments by name, in ./experiments and by path."""

from pathlib import Path

import pytest

from harness.sweeps.experiment_files import ExperimentError, find, names_found, own_names

MINE = """
from harness import Grid, Workload
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Section


def cells(size: Size) -> Grid:
    return Grid(base=Workload(width=8, in_features=8, batch=4), axes={"depth": [1, 2]})


def analyse(evidence: Evidence) -> Section:
    return Section(text=(f"{len(evidence.frame)} records",))


EXPERIMENT = Experiment(title="Mine", question="Does mine run?", cells=cells, analyse=analyse)
"""


def test_a_file_in_the_folder_experiments_is_found_by_name(here: Path) -> None:
    (here / "experiments").mkdir()
    (here / "experiments" / "mine.py").write_text(MINE)
    (here / "experiments" / "__init__.py").write_text("raise RuntimeError('not imported')\n")
    assert find("mine").question == "Does mine run?"
    assert names_found() == sorted([*own_names(), "mine"])
    assert "mine" not in own_names()
    (here / "experiments" / "width.py").write_text(MINE)
    assert find("width").title == "Mine", "a user's file comes before ours"
    packed = here / "experiments" / "packed"
    packed.mkdir()
    (packed / "answers.py").write_text("TITLE = 'From next to it'\n")
    text = MINE.replace('title="Mine"', "title=TITLE")
    (packed / "__init__.py").write_text("from .answers import TITLE\n" + text)
    assert find("packed").title == "From next to it"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", r"mine.py must define EXPERIMENT"),
        ("EXPERIMENT = 1\n", r"mine.py must define EXPERIMENT"),
        ("import no_such\nEXPERIMENT = 1\n", r"load mine.py: ModuleNotFoundError: .*no_such"),
        ("x = (\n", r"cannot load mine.py: SyntaxError"),
        (None, r"no such file: mine\.py"),
    ],
)
def test_a_file_that_is_no_experiment_is_one_clear_line(
    here: Path, text: str | None, message: str
) -> None:
    if text:
        (here / "mine.py").write_text(text)
    with pytest.raises(ExperimentError, match=message):
        find("mine.py")
