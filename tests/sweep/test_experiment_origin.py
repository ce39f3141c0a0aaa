"""A report runs the experiment that its records name, and nothing else that has its name."""

import json
import re
from pathlib import Path

import pytest

from harness.cli.app import main
from harness.sweeps.experiment_files import ORIGIN
from tests.commands import Ask
from tests.sweep.test_experiment_files import MINE

RAN = "import pathlib\npathlib.Path({mark!r}).touch()\n"


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "it-ran"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an experiment that was run into ``out``."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "mine.py").write_text(MINE)
    monkeypatch.chdir(folder)
    assert main(["sweep", "mine.py", "--executor", "in-process", "--out", "out"]) == 0
    return folder


def report_text(folder: Path) -> str:
    names = ("report.md", "evidence.html")
    return "".join((folder / name).read_text(encoding="utf-8") for name in names)


def test_a_report_from_elsewhere_has_the_analysis(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(project / "out")]) == 0
    assert "2 records" in report_text(project / "out")
    assert "Does mine run?" in report_text(project / "out")
    (project / "mine.py").write_text(MINE.replace(" records", " lines"))
    assert main(["report", str(project / "out")]) == 0
    assert "2 lines" in report_text(project / "out"), "a changed analysis is used where it is"


def test_a_moved_experiment_is_found_by_its_hash_alone(project: Path, mark: Path, ask: Ask) -> None:
    ask(["report", "out"])
    before = report_text(project / "out")
    (project / "experiments").mkdir()
    (project / "mine.py").rename(project / "experiments" / "mine.py")
    ask(["report", "out"])
    assert report_text(project / "out") == before
    other = RAN.format(mark=str(mark)) + MINE
    (project / "experiments" / "mine.py").write_text(other)
    said = ask(["report", "out"], 2)
    assert said.out == ""
    assert "mine.py was not found; give it with --experiment" in said.err
    assert said.err.count("harness: ") == 1
    assert not mark.exists()
    assert report_text(project / "out") == before
    ask(["report", "out", "--experiment", "experiments/mine.py"])
    assert mark.exists()


def test_a_given_experiment_without_records_is_refused(project: Path, ask: Ask) -> None:
    for name, why in (("other.py", "no records of an experiment 'ot"), ("none/mine.py", "none")):
        (said,) = ask(["report", "out", "--experiment", name], 2).err.splitlines()
        assert why in said


def test_no_other_script_is_run(here: Path, mark: Path) -> None:
    """Neither one of a folder's name nor an experiment of the records' name: it was not run."""
    for made in ("out/mine", "out/figures", "out/tables", "out/depth_batch", "experiments"):
        (here / made).mkdir(parents=True)
    for name in ("figures", "tables", "mine", "experiments/figures", "out/depth_batch"):
        (here / f"{name}.py").write_text(RAN.format(mark=str(mark)) + MINE)
    for name in ("depth_batch", "mine"):
        (here / "out" / name / "records.jsonl").touch()
    assert main(["report", "out"]) == 3, "there are no records, so no answer"
    assert not mark.exists()


def test_an_experiment_that_came_with_the_records_is_not_run(project: Path, mark: Path) -> None:
    """A stranger's folder may name a file of its own."""
    theirs = project / "out" / "mine.py"
    theirs.write_text(RAN.format(mark=str(mark)) + MINE)
    origin = json.loads((project / "out" / "mine" / ORIGIN).read_text())
    origin["file"] = str(theirs)
    (project / "mine.py").unlink()
    (project / "out" / "mine" / ORIGIN).write_text(json.dumps(origin))
    assert main(["report", "out"]) == 2
    assert not mark.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"file": 1}', '{"file": "/x"}', "\xff"])
def test_a_damaged_origin_is_one_line(project: Path, text: str, ask: Ask) -> None:
    (project / "out" / "mine" / ORIGIN).write_text(text, encoding="latin-1")
    for line in (["report", "out"], ["sweep", "mine.py", "--out", "out"]):
        (said,) = ask(line, 2).err.splitlines()
        assert ORIGIN in said


def test_a_list_runs_no_script_and_names_it(here: Path, ask: Ask, mark: Path) -> None:
    (here / "experiments").mkdir()
    scripts = {"train": RAN.format(mark=str(mark)), "mine": MINE}
    for name, text in {**scripts, "broken": f"import no_such_module\n{MINE}"}.items():
        (here / "experiments" / f"{name}.py").write_text(text)
    said = ask(["sweep", "--list"])
    assert "Does mine run?" in said.out
    assert "depth_batch" in said.out
    train, broken = sorted(said.err.splitlines(), reverse=True)
    assert train == "skipped: experiments/train.py: it defines no EXPERIMENT"
    assert broken.startswith("skipped: cannot load experiments/broken.py: ModuleNotFoundError")
    assert not mark.exists()
    assert "must define EXPERIMENT" in ask(["sweep", "experiments/train.py", "--out", "out"], 2).err
    assert not mark.exists()


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ("Grid(base={'width': 8})", "mine.py:8 in cells: base must be a harness.Workload"),
        ("[{'width': 8}]", "each cell must be a harness.Workload, got a dict; write Workload(**"),
        ("None", "mine.py: cells: must return a Grid or workloads, got a NoneType"),
        ("1 / 0", "mine.py:8 in cells: ZeroDivisionError: division by zero"),
    ],
)
def test_a_mistake_in_cells_is_one_line_that_names_it(
    ask: Ask, here: Path, cells: str, message: str
) -> None:
    text = re.sub(r"return Grid.*", f"return {cells}", MINE.lstrip())
    (here / "mine.py").write_text("\n" + text)
    said = ask(["sweep", "mine.py", "--executor", "in-process", "--out", "out"], 2).err
    assert message in said
    assert said.count("\n") == 1


def test_a_mistake_in_analyse_names_its_line_and_keeps_the_earlier_report(
    ask: Ask, here: Path
) -> None:
    claim = """Section(claims=(Claim(
        sentence="It runs.", verdict=Verdict.SUPPORTED, rule=Rule(holds="a", fails="b", open="c"),
        second="none", measured="2", number="2"),))"""
    names = "Claim, Rule, Section, Verdict"
    good = re.sub(r"Section\(text.*", claim, MINE).replace("import Section", f"import {names}")
    (here / "mine.py").write_text(good)
    ask(["sweep", "mine.py", "--executor", "in-process", "--out", "out"])
    ask(["report", "out"])
    page = (here / "out" / "report.html").read_bytes()
    for wrong, said in (
        (good.replace("return Section", "evidence.no\n    return Section"), "AttributeError"),
        (good.replace("Verdict.SUPPORTED", "'yes'"), "verdict must be one of Verdict.SUPPORTED"),
    ):
        (here / "mine.py").write_text(wrong)
        err = ask(["report", "out"], 2).err
        assert "could not be written: mine.py:" in err
        assert said in err
        assert "The earlier report is kept." in err
        assert (here / "out" / "report.html").read_bytes() == page
