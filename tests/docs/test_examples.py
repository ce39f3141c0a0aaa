"""Every command and Python example of README and documentation runs as it stands there."""

import importlib.metadata
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.cli.app import main

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"(?:<!-- (not run|file|numbers vary)(?:: (.+?))? -->\n)?^```(\w+)\n(.*?)^```", re.M | re.S
)
DOCUMENTED_TORCH = "2.15"
"""Version whose CUDA build printed the output that the pages show, also of dry runs."""


class Block(NamedTuple):
    """A fenced block of a page, with the comment in front of it."""

    page: str
    line: int
    language: str
    text: str
    mark: str | None
    name: str | None


def blocks() -> Iterator[Block]:
    """Yield every fenced block of every page."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            mark, name, language, block = match.groups()
            line = text.count("\n", 0, match.start()) + 1
            yield Block(page.relative_to(ROOT).as_posix(), line, language, block, mark, name)


RUN = [block for block in blocks() if block.mark != "not run"]
SESSIONS = [block for block in RUN if block.language == "console"]
EXAMPLES = [
    pytest.param(
        block.text,
        id=f"{block.page}:{block.line}",
        marks=pytest.mark.slow if 'gpu="all"' in block.text else (),
    )
    for block in RUN
    if block.language == "python"
]
FILES = {block.name: block.text for block in RUN if block.mark == "file" and block.name}
"""The files that the pages show, for the commands that read them."""


def commands(block: Block) -> Iterator[tuple[str, list[str]]]:
    """Yield each command of a block with the lines that the page shows below it."""
    for part in re.split(r"^\$ ", block.text, flags=re.M)[1:]:
        command, *shown = part.replace("\\\n", " ").splitlines()
        yield command, shown


def test_there_are_examples_to_run() -> None:
    assert len({command for block in SESSIONS for command, _ in commands(block)}) >= 20


@pytest.mark.slow
@pytest.mark.parametrize("page", dict.fromkeys(block.page for block in SESSIONS))
def test_the_commands_of_a_page_print_what_it_shows(
    page: str, here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    torch = importlib.metadata.version("torch")
    is_documented = torch.startswith(DOCUMENTED_TORCH) and "+cpu" not in torch
    (here / "examples").symlink_to(ROOT / "examples")
    for name, text in FILES.items():
        (here / name).write_text(text)
    for block in SESSIONS:
        for command, shown in commands(block) if block.page == page else ():
            line, _, file = command.partition(" > ")
            code = main(shlex.split(line, comments=True)[1:])
            said = capfd.readouterr()
            assert code == 0 or (code == 3 and shown), said.err
            assert said.out.strip() or said.err.strip()
            if file:
                Path(file).write_text(said.out)
            if is_documented:
                assert_shown(shown, said.out, masked=block.mark == "numbers vary")


def assert_shown(shown: list[str], printed: str, *, masked: bool) -> None:
    """Fail unless every line of the page is printed, in this order; "..." stands for others."""

    def plain(line: str) -> str:
        line = re.sub(r"[\d,.]*\d", "0", line) if masked else line
        return " ".join(line.split())

    rest = iter([plain(line) for line in printed.splitlines()])
    for line in map(plain, shown):
        if line not in ("", "..."):
            assert line in rest, f"{line!r} is not printed here:\n{printed}"


def test_a_line_that_is_not_printed_is_noticed() -> None:
    assert_shown(["a 1", "...", "b  2"], "a 1\nx\nb 2\n", masked=False)
    assert_shown(["a 1.5 s"], "a 77 s\n", masked=True)
    for shown in (["a 2"], ["b 2", "a 1"]):
        with pytest.raises(AssertionError, match="is not printed"):
            assert_shown(shown, "a 1\nb 2\n", masked=False)


def test_the_script_of_the_notes_own_step_runs(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(ROOT / "docs" / "scripts" / "trace_the_note.py"), run_name="__main__")
    printed = capsys.readouterr().out
    peak = int(printed.split(" bytes")[0].replace(",", ""))
    parts = [int(line.split()[1].replace(",", "")) for line in printed.splitlines()[1:]]
    assert peak == sum(parts)
    assert "at the peak, in the forward phase" in printed  # the old gradients are alive there


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_python_example_runs(example: str, here: Path) -> None:
    (here / "example.py").write_text(example)
    runpy.run_path("example.py", run_name="__main__")
