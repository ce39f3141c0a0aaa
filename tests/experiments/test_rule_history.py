"""The history of each rule is the one that git has: no limit moves without a word on the page."""

import functools
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.claim_data import history_of

ROOT = Path(__file__).parents[2]
FILE = "experiments/rule_history.toml"
TABLES = sorted(path.relative_to(ROOT) for path in ROOT.glob("experiments/*/claims.toml"))
NO_CLAIMS = {"all", "text", "figures"}
DECIDING = ("value", "relation", "limit", "where", "holds_if", "cases")


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


@functools.cache
def added_in() -> str:
    """Return the commit that added the history."""
    try:
        return git("log", "--diff-filter=A", "--format=%H", "--", FILE).split()[-1]
    except (subprocess.CalledProcessError, FileNotFoundError, IndexError):
        pytest.skip("the history of the repository is not here")


def claims(text: str) -> dict[str, Any]:
    every = tomllib.loads(text)
    common = every.get("all", {})
    return {name: {**common, **own} for name, own in every.items() if name not in NO_CLAIMS}


HISTORY = tomllib.loads((ROOT / FILE).read_text())


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.parent.name)
def test_every_claim_tells_its_history(path: Path) -> None:
    known = claims((ROOT / path).read_text())
    assert set(HISTORY[path.parent.name]) - {"all"} <= set(known)
    for name in known:
        told = str(history_of(str(ROOT / path), name))
        assert told.startswith("source of the limit: ")
        assert "; first data 2" in told
        assert "; written 2" in told


@pytest.mark.parametrize("name", HISTORY["change"])
def test_a_change_is_the_one_that_git_has(name: str) -> None:
    added_in()
    change = HISTORY["change"][name]
    git("merge-base", "--is-ancestor", change["commit"], "HEAD")
    day, *lines = git("show", "--date=short", "--format=%ad", change["commit"]).splitlines()
    assert day == str(change["date"])
    for sign, fragment in (("-", "removed"), ("+", "added")):
        wanted = change.get(fragment, "")
        assert any(wanted in line for line in lines if line.startswith(sign)), (name, wanted)


def test_changes_stand_in_their_order_and_after_the_first_data() -> None:
    for path in TABLES:
        for claim in claims((ROOT / path).read_text()):
            history = history_of(str(ROOT / path), claim)
            assert history is not None
            days = [one.date for one in (history.first_data, *history.changes)]
            assert days == sorted(days), (path, claim)


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.parent.name)
def test_a_rule_that_changed_since_has_an_entry(path: Path) -> None:
    """Commits that change what decides a claim are named in its history."""
    for commit in git("log", "--format=%h", f"{added_in()}..HEAD", "--", str(path)).split():
        before, after = (claims(git("show", f"{at}:{path}")) for at in (f"{commit}^", commit))
        for name in before.keys() & after.keys():
            moved = [key for key in DECIDING if before[name].get(key) != after[name].get(key)]
            history = history_of(str(ROOT / path), name)
            listed = {one.commit[:7] for one in history.changes} if history else set()
            assert not moved or commit[:7] in listed, (commit, name, moved)


def test_the_three_limits_that_moved_after_the_data_are_told() -> None:
    for name, words in {
        "width/time": "the limit changed from 1.05 to 1,",
        "depth_batch/resident": "the limit changed from 2% to 10%",
        "depth_batch/rss_rise_bytes": "instead of from the end of the last step",
    }.items():
        folder, claim = name.split("/")
        history = history_of(str(ROOT / "experiments" / folder / "claims.toml"), claim)
        assert history is not None
        assert any(words in one.words for one in history.changes), name
    width = history_of(str(ROOT / "experiments/width/claims.toml"), "time")
    assert width is not None
    assert len(width.changes) == 4
