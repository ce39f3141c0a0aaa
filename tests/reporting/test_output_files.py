"""A report in a folder that is in use: it replaces its own files, and no others."""

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.cli.app import main
from harness.reporting.claims import read_claims
from harness.reporting.report import write_report
from tests.analysis import planted
from tests.commands import Ask

SMALL = ((1, 2, 4), (16, 64, 256))


def files(folder: Path) -> dict[str, bytes]:
    result = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in result}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    for name in ("depth_batch", "optimizers"):
        planted.write(folder / name, planted.grid(*SMALL))
    write_report(folder)
    return folder


@pytest.fixture
def run(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "run"))


def test_files_of_the_users_stay_and_those_of_the_earlier_report_go(run: Path) -> None:
    mine = {
        "figures/mine.txt": b"drawn by hand",
        "figures/depth_batch-mine.svg": b"<svg/>",
        "tables/notes.md": b"read this",
    }
    for name, content in mine.items():
        (run / name).write_bytes(content)
    (run / "figures" / "folder").mkdir()
    shutil.rmtree(run / "optimizers")
    before = files(run)
    assert any(name.startswith("figures/depth_batch-") for name in before)
    assert [name for name in before if name.startswith(("figures/opt", "tables/opt"))]
    assert main(["report", str(run)]) == 0
    after = files(run)
    assert [name for name in after if "/optimizers" in name] == []
    assert before.items() >= mine.items() <= after.items()
    assert {name for name in before if "/depth_batch-" in name} <= after.keys()
    assert [name for name in after if name.endswith(".new")] == []


@pytest.mark.parametrize(
    ("place", "name", "target", "first", "code"),
    [(Path, "write_bytes", 0, 4, errno.ENOSPC), (os, "replace", 1, 20, errno.ESTALE)],
    ids=["full disk", "network"],
)
def test_a_file_system_that_fails_half_way_leaves_the_earlier_report(
    run: Path, place: Any, name: str, target: int, first: int, code: int,
    monkeypatch: pytest.MonkeyPatch, ask: Ask,
) -> None:  # fmt: skip
    """Over files that exist, and where there was none."""
    (run / "figures" / "depth_batch-owners.svg").unlink()
    planted.write(run / "optimizers", planted.grid((1, 2, 4), (32, 128, 512)))
    before, act, left = files(run), getattr(place, name), [first]

    def fail(*arguments: Any) -> Any:
        if Path(arguments[target]).is_relative_to(run):
            left[0] -= 1
            if left[0] <= 0:
                if name == "write_bytes":
                    act(arguments[0], arguments[1][:10])
                raise OSError(code, os.strerror(code))
        return act(*arguments)

    monkeypatch.setattr(place, name, fail)
    said = ask(["report", str(run)], 2)
    assert (said.out, left[0]) == ("", 0)
    (line,) = [line for line in said.err.splitlines() if line.startswith("harness: ")]
    assert os.strerror(code) in line
    assert line.endswith("the report was not written")
    assert files(run) == before


@pytest.mark.parametrize(
    "name",
    [
        "report.md",
        "figures",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("claims.json", "tables", ".report.md.new")
        ),
    ],
)
def test_nothing_is_written_or_deleted_through_a_link(
    name: str, run: Path, tmp_path: Path, ask: Ask
) -> None:
    """Git carries links: a stranger's records must not reach files elsewhere."""
    victim = tmp_path / "victim"
    if name in ("figures", "tables"):
        shutil.move(run / name, victim)
        shutil.rmtree(run / "optimizers")  # so that its figures and tables would be deleted
    else:
        victim.write_text("mine")
        (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(victim)
    before = files(victim) if victim.is_dir() else victim.read_bytes()
    said = ask(["report", str(run)], 0 if name.endswith(".new") else 2)
    assert (files(victim) if victim.is_dir() else victim.read_bytes()) == before
    assert name.endswith(".new") or "link" in said.err


@pytest.mark.parametrize("spoilt", ["file", "folder", "link"])
def test_a_place_that_is_taken_is_one_line(run: Path, spoilt: str, ask: Ask) -> None:
    before = files(run / "tables")
    shutil.rmtree(run / "figures")
    if spoilt == "file":
        (run / "figures").write_text("mine")
    elif spoilt == "folder":
        (run / "figures" / "depth_batch-owners.svg").mkdir(parents=True)
    else:
        (run / "figures").symlink_to("no/such")
    said = ask(["report", str(run)], 2)
    assert said.out == ""
    assert len([line for line in said.err.splitlines() if line.startswith("harness: ")]) == 1
    assert "figures" in said.err
    assert files(run / "tables") == before


def test_claims_of_an_experiment_that_is_not_known_here_are_kept(run: Path, ask: Ask) -> None:
    page = (run / "claims.json").read_text()
    (run / "claims.json").write_text(page.replace('"depth_batch"', '"norm_cost"'))
    (run / "depth_batch").rename(run / "norm_cost")
    before = files(run)
    assert "has claims of norm_cost, which is not known here" in ask(["report", str(run)], 2).err
    assert files(run) == before
    (run / "claims.json").unlink()
    ask(["report", str(run)])
    assert "norm_cost" not in {claim.experiment for claim in read_claims(run).claims}
