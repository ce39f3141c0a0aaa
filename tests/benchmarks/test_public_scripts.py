"""Public scripts: their list, stand-ins for their data, their rows, and the committed page."""

import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.public_scripts import __main__ as public
from benchmarks.public_scripts.script_table import scripts_page
from benchmarks.public_scripts.stand_ins import make
from benchmarks.public_scripts.timed_runs import TimedRun
from benchmarks.witnesses.clones import CloneError

COMMITTED = Path(__file__).parents[2] / "results/cuda-dry-run/public-scripts.csv"


def timed(seconds: float, **changes: Any) -> TimedRun:
    peaks = {"allocated_peak_bytes": 900, "reserved_peak_bytes": 1000}
    more = {"allocated_peak_bytes": 1900, "reserved_peak_bytes": 2000}
    report: dict[str, Any] = {"outcome": "ok", "evidence": None, "fit": "fits", "cuda": peaks}
    report |= {"optimizer_steps": 6, "environment": {"torch": "2.15"}}
    report |= {"unknown": {"runs": 3, "moves": True, "lowest": peaks, "highest": more}}
    return TimedRun(
        report=report | changes,
        failed="",
        wall_seconds=seconds,
        processor_seconds=2 * seconds,
        foreign_seconds=0.5,
    )


def test_the_committed_page_is_made_from_its_table() -> None:
    assert COMMITTED.with_suffix(".md").read_text() == scripts_page(public.read_rows(COMMITTED))


def test_the_table_has_a_row_for_each_script_at_its_commit() -> None:
    listed = [public.script_facts(script) for script in public.SCRIPTS]
    assert len({public.key_of(one) for one in listed}) == len(listed)
    assert all(len(one["commit"]) == 40 for one in listed)
    committed = public.read_rows(COMMITTED)
    assert [{name: row[name] for name in listed[0]} for row in committed] == listed


def test_stand_ins_have_the_formats_that_scripts_read(tmp_path: Path) -> None:
    make(tmp_path, {"make": "mnist", "into": "data", "train": 20, "test": 3})
    raw = tmp_path / "data/MNIST/raw"
    sizes = {file.name: file.stat().st_size for file in raw.iterdir()}
    assert sizes == {
        "train-images-idx3-ubyte": 16 + 20 * 28 * 28,
        "train-labels-idx1-ubyte": 8 + 20,
        "t10k-images-idx3-ubyte": 16 + 3 * 28 * 28,
        "t10k-labels-idx1-ubyte": 8 + 3,
    }
    make(tmp_path, {"make": "images", "into": "I", "count": 3, "size": [8, 6], "classes": 2})
    files = sorted(tmp_path.glob("I/*/*.jpg"))
    assert [str(file.relative_to(tmp_path)) for file in files[:4]] == [
        "I/0/0.jpg", "I/0/1.jpg", "I/0/2.jpg", "I/1/0.jpg"
    ]  # fmt: skip
    assert len(files) == 6
    with Image.open(files[0]) as image:
        assert image.size == (8, 6)
    make(tmp_path, {"make": "masks", "into": "masks", "count": 1, "size": [8, 6]})
    with Image.open(tmp_path / "masks/0_mask.gif") as mask:
        assert sorted(np.unique(np.asarray(mask))) == [0, 1]
    make(tmp_path, {"make": "words", "into": "a/text.txt", "count": 100, "first": "O God!"})
    text = (tmp_path / "a/text.txt").read_text()
    assert text.startswith("O God! w")
    assert len(text.split()) == 102
    make(tmp_path, {"make": "tokens", "into": "t.bin", "count": 500, "vocabulary": 65})
    tokens = np.fromfile(tmp_path / "t.bin", np.uint16)
    assert (len(tokens), tokens.max()) == (500, 64)
    make(tmp_path, {"make": "alphabet", "into": "meta.pkl", "vocabulary": 65})
    assert len(pickle.loads((tmp_path / "meta.pkl").read_bytes())["stoi"]) == 65


def test_a_script_is_unpacked_without_what_stands_in_for_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def extract(clone: Path, commit: str, paths: list[str], folder: Path) -> None:
        asked.extend([clone.name, commit, *paths, folder.name])

    monkeypatch.setattr(public, "extract", extract)
    monkeypatch.setattr(public, "REPOSITORIES", {"a/b": {"commit": "c0", "without": ["big"]}})
    script = {"repository": "a/b", "data": [{"make": "mnist", "into": "data"}]}
    with pytest.raises(CloneError, match="it is a clone of a/b"):
        public.unpack(script, tmp_path, tmp_path)
    (tmp_path / "b").mkdir()
    public.unpack(script, tmp_path, tmp_path / "root")
    assert asked == ["b", "c0", ".", ":(exclude)big", ":(exclude)data", "root"]


def test_a_failure_is_a_row_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scripts = [
        {"repository": "a/b", "folder": "f", "command": f"{name}.py 1"} for name in ("bad", "good")
    ]
    monkeypatch.setattr(public, "SCRIPTS", scripts)
    monkeypatch.setattr(public, "REPOSITORIES", {"a/b": {"commit": "c0ffee00"}})
    monkeypatch.setattr(public, "unpack", lambda *_: None)

    def run(_: Path, script: Mapping[str, Any], *, try_values: bool, compute: str) -> TimedRun:
        if script["command"].startswith("bad"):
            return TimedRun(
                report=None, failed="ImportError: einops", wall_seconds=1,
                processor_seconds=1, foreign_seconds=0,
            )  # fmt: skip
        if compute == "auto":
            return timed(12.0, unknown=None, computed={"operators": 5, "stopped_after_step": 1})
        return timed(15.0) if try_values else timed(10.0, unknown=None)

    monkeypatch.setattr(public, "timed_run", run)
    words = ["public_scripts", "--clones", str(tmp_path), "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    assert public.main() == 1
    assert "f/bad.py 1: error: ImportError: einops" in capsys.readouterr().out
    page = (tmp_path / "public-scripts.md").read_text()
    assert "take 1.50 times the wall time of one run" in page
    assert "1 ended `error`, 1 ended `ok, fits`" in page
    assert "These values changed the peak of 1 script." in page
    assert "values, 0 of 1 scripts have the same peak; all values of 0 were computed" in page
    sizes = "| 900–1,900 | 1,000–2,000 | 3 | for 1 step"
    row = f"| `f/good.py 1` | 6 {sizes} | 10.0 | 15.0 | 12.0 | 20.0 | 30.0 | 24.0 |"
    assert row in page
    assert "- `f/bad.py 1`: error: ImportError: einops" in page


def test_one_run_outside_of_the_range_of_all_is_a_fault() -> None:
    script = {"repository": "karpathy/nanoGPT", "folder": "", "command": "train.py"}
    row = public.script_facts(script) | public.answered(timed(1.0), Path("/nowhere"))
    row |= {"computed_lowest_bytes": 1000, "computed_highest_bytes": 2000}
    assert not list(public.faults(row | {"one_reserved_bytes": 2000}))
    (said,) = public.faults(row | {"one_reserved_bytes": 2001})
    assert said == "train.py: one_reserved_bytes is 2001, which is not among those of all runs"
