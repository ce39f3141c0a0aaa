"""Every command and Python example of README and documentation runs as it stands there."""

import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cli.app import app, main

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"(?:<!-- not run: (.+?) -->\n)?^```(console|python)\n(.*?)^```", re.M | re.S)


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of every block that has to run."""
    for page in PAGES:
        name = page.relative_to(ROOT).as_posix()
        text = page.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            why_not, kind, block = match.groups()
            if kind == language and why_not is None:
                yield f"{name}:{text.count(chr(10), 0, match.start()) + 1}", block


PLACES = {
    line[2:]: f"{where} {line[2:60]}"
    for where, block in blocks("console")
    for line in block.splitlines()
    if line.startswith("$ ")
}
"""Each command with one place of it: what stands on several pages runs once."""
COMMANDS = [pytest.param(command, id=place) for command, place in PLACES.items()]
EXAMPLES = [pytest.param(block, id=where) for where, block in blocks("python")]


def test_there_are_examples_to_run() -> None:
    assert len(COMMANDS) >= 8


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_runs(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code = main(shlex.split(command, comments=True)[1:])
    said = capfd.readouterr()
    assert code == 0, said.err
    assert said.out.strip() or said.err.strip()


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_line_takes_a_command_of_the_documentation(command: str) -> None:
    program, name, *arguments = shlex.split(command, comments=True)
    assert program == "harness", "mark anything else as sh"
    if name != "report":  # of the folder that the sweep before it writes
        whole = app.make_context("harness", [name, *arguments])
        app.commands[name].make_context(name, arguments, parent=whole)


def test_the_script_of_the_notes_own_step_runs(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(ROOT / "docs" / "scripts" / "trace_the_note.py"), run_name="__main__")
    printed = capsys.readouterr().out
    peak = int(printed.split(" bytes")[0].replace(",", ""))
    parts = [int(line.split()[1].replace(",", "")) for line in printed.splitlines()[1:]]
    assert peak == sum(parts)
    assert "at the peak, in the forward phase" in printed  # the old gradients are alive there


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_python_example_runs(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "example.py").write_text(example)
    runpy.run_path("example.py", run_name="__main__")
