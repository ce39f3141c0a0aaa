"""Verdicts of several runs: what differs between them is kept, and what is equal is not."""

import json
from pathlib import Path

import pytest

from benchmarks import earlier_runs
from harness.reporting.earlier_runs import EARLIER, EarlierRun
from harness.schema.findings import Verdict

HOLDS, FAILS = Verdict.SUPPORTED, Verdict.REFUTED
RUNS = {
    "reference": {"exact": (HOLDS, "8 of 8"), "turns": (HOLDS, "1"), "noisy": (HOLDS, "1.0")},
    "first": {"exact": (HOLDS, "4 of 4"), "turns": (FAILS, "2"), "noisy": (HOLDS, "1.1")},
    "second": {"exact": (HOLDS, "4 of 4"), "turns": (FAILS, "2"), "noisy": (HOLDS, "1.2")},
    "elsewhere": {"exact": (FAILS, "0 of 4")},
}


def test_what_turns_or_varies_is_kept_of_runs_of_one_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def verdicts(folder: Path, run: str) -> tuple[earlier_runs.Found, str]:
        found = {
            ("x", name): EarlierRun(run=folder.name, date="", verdict=verdict, number=number)
            for name, (verdict, number) in RUNS[folder.name].items()
        }
        return found, "other" if folder.name == "elsewhere" else "this"

    (tmp_path / "reference").mkdir()
    folders = [str(tmp_path / name) for name in RUNS]
    monkeypatch.setattr(earlier_runs, "verdicts", verdicts)
    monkeypatch.setattr("sys.argv", ["earlier_runs", folders[0], "--runs", *folders[1:]])
    assert earlier_runs.main() == 0
    written = json.loads((tmp_path / "reference" / EARLIER).read_text())
    kept = {one["headline"]: [run["run"] for run in one["runs"]] for one in written["claims"]}
    assert kept == {"turns": ["first", "second"], "noisy": ["first", "second"]}
