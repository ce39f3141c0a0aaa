"""Progress on a terminal while the answer is not there yet."""

import io
import sys
from collections.abc import Callable, Iterator

import pytest

from harness.cli.shown_progress import shown_progress
from harness.schema.ability import Ability
from harness.schema.errors import install_compiler
from tests.commands import Ask, facts_of


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_is_told_what_is_done_and_a_pipe_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, "stderr", stream)
        with shown_progress("trying ") as tell:
            tell("2 x 8,\x1b[2J")
        said = stream.getvalue()
        assert ("PyTorch starts" in said) == ("trying 2 x 8,\\x1b[2J" in said) == stream.isatty()


def test_a_measurement_says_on_a_terminal_that_workers_run(
    monkeypatch: pytest.MonkeyPatch, ask: Ask
) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    ask(["measure", "--depth", "1", "--batch", "4", "--repeats", "1"])
    assert "workers measure the step" in terminal.getvalue()


def test_doctor_prints_each_finding_as_soon_as_it_is_known(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ask: Ask
) -> None:
    terminal, before = Terminal(), list[str]()
    machine, gpu = Ability("machine", True, "two cores"), Ability("CUDA", False, "no GPU")

    def examine(tell: Callable[[str], None]) -> Iterator[Ability]:
        yield machine
        before.append(capsys.readouterr().out)
        tell("starting a worker")
        yield gpu

    monkeypatch.setattr("harness.measurement.doctor.examine", examine)
    monkeypatch.setattr("harness.dry_runs.examine_dry_run.examine_dry_run", lambda: iter([gpu]))
    monkeypatch.setattr(sys, "stderr", terminal)
    rest = ask(["doctor"]).out
    assert (before[0].split(), rest.count("no GPU")) == (["machine", "yes", "two", "cores"], 2)
    assert "starting a worker" in terminal.getvalue()
    found = facts_of(ask(["doctor", "--json"]).out)["findings"]
    assert (before[1], found) == ("", [one.as_dict() for one in (machine, gpu, gpu)])


def test_a_machine_without_temporary_files_is_one_line(
    monkeypatch: pytest.MonkeyPatch, ask: Ask
) -> None:
    def fails(tell: object) -> None:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr("harness.measurement.doctor.examine", fails)
    assert ask(["doctor"], code=2).err.endswith("set TMPDIR to a writable folder\n")


@pytest.mark.parametrize(
    ("release", "command"),
    [('ID=fedora', "dnf"), ('ID="opensuse-leap"\nID_LIKE="suse opensuse"', "zypper"),
     ("ID=ubuntu\nID_LIKE=debian", "apt-get"), ("ID=alpine", "apk"), ("", "apt-get")],
)  # fmt: skip
def test_a_compiler_is_installed_as_the_system_does(release: str, command: str) -> None:
    assert install_compiler(release).startswith(command)
