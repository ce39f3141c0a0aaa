"""The rank runs of an experiment's folder: one a cell, and what is said of all of them."""

from collections.abc import Iterable
from pathlib import Path

from harness.analysis import AnalysisError
from harness.analysis.frame import lines_if_there
from harness.schema.rank_run import RANK_RUNS, RankRun, from_json


def last_rank_runs(folder: Path) -> list[RankRun]:
    """Return the last run of each cell."""
    runs = lines_if_there(folder / RANK_RUNS, from_json)
    return list({run.cell_id: run for run in runs}.values())


def no_answer(what: str, runs: Iterable[RankRun]) -> AnalysisError:
    """Return the error that no run can be used, with the reasons that the runs give."""
    why = sorted({str(run.evidence.get("message", run.outcome)) for run in runs})
    return AnalysisError(what + "".join(f": {each}" for each in why))


def seen_on(runs: Iterable[RankRun]) -> str:
    """Return the versions of PyTorch and the devices in words."""
    seen = {
        f"torch {run.environment.get('torch')} on a {run.environment.get('device')}" for run in runs
    }
    return ", ".join(sorted(seen))
