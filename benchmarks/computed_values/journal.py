"""File to which the results of each case are appended, so that a stopped run can go on."""

import dataclasses
import json
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Any

from benchmarks.computed_values.comparison import Result

ROOT = Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """Code and settings of a run. Results of another origin are not gone on with."""

    commit: str
    samples: int | None
    only: str
    torch: str

    @staticmethod
    def now(samples: int | None, only: str) -> "Origin":
        """Return the origin of a run that starts now; a changed checkout is named as such."""
        changed = "" if not _git("status", "--porcelain", "--untracked-files=no") else " (changed)"
        commit = _git("rev-parse", "--short=12", "HEAD") + changed
        return Origin(commit=commit, samples=samples, only=only, torch=version("torch"))


def _git(*words: str) -> str:
    made = subprocess.run(
        ["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True
    )
    return made.stdout.strip()


class Journal:
    """The file: its first line is the origin, each further line is one case with its results."""

    def __init__(self, path: Path, origin: Origin, *, keep: bool = False) -> None:
        """Open the file; one of another origin is begun anew, unless it is to be kept."""
        self.path, self.origin = path, origin
        self._lock = Lock()
        own = dataclasses.asdict(origin)
        if keep:
            self.origin = Origin(**_lines(path)[0])
            return
        if path.exists() and _lines(path)[:1] == [own]:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(own) + "\n")

    def add(self, group: str, case: str, results: Sequence[Result]) -> None:
        """Append a case."""
        found = [dataclasses.asdict(one) for one in results]
        line = json.dumps({"group": group, "case": case, "results": found}) + "\n"
        with self._lock, self.path.open("a") as file:
            file.write(line)

    def results(self) -> list[Result]:
        """Return the results of all cases that the file has."""
        return [Result(**one) for line in _lines(self.path)[1:] for one in line["results"]]


def cases_in(path: Path, group: str) -> set[str]:
    """Return the names of a group's cases that the file has."""
    return {str(line["case"]) for line in _lines(path)[1:] if line["group"] == group}


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines; one that was being written when the run was stopped is none."""
    whole, _, _ = path.read_text().rpartition("\n")
    return [json.loads(line) for line in whole.splitlines() if line.endswith("}")]
