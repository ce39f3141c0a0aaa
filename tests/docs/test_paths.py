"""The files of the checkout: those at its root, and those that pages name."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
AT_THE_ROOT = {
    ".ci", ".dockerignore", ".github", ".gitignore", ".pre-commit-hooks.yaml", ".zenodo.json",
    "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "Dockerfile", "LICENSE", "Makefile",
    "README.md", "SECURITY.md", "action.yml", "benchmarks", "docs", "examples", "experiments",
    "harness", "pyproject.toml", "results", "tests",
}  # fmt: skip
PATH = re.compile(r"(?<![\w/])((?:\.ci|benchmarks|docs|experiments|harness|tests)/[\w/.-]+\.\w+)")
"""A file of the checkout in a text; results of a user's own runs are not in it."""


def tracked(*patterns: str) -> list[str]:
    """Return the files that git knows."""
    command = ["git", "-C", str(ROOT), "ls-files", *patterns]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a checkout of git")
    return done.stdout.splitlines()


def test_the_root_has_no_stray_file() -> None:
    assert {path.partition("/")[0] for path in tracked()} == AT_THE_ROOT


def test_each_file_that_a_page_names_is_there() -> None:
    elsewhere = re.compile(
        "CHANGELOG|results/|tests/first_use"
    )  # the past, others' files, short names
    pages = [path for path in tracked("*.md") if not elsewhere.match(path)]
    named = {(page, path) for page in pages for path in PATH.findall((ROOT / page).read_text())}
    assert len(named) > 15
    assert [one for one in sorted(named) if not (ROOT / one[1]).exists()] == []
