import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.app import main


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness.cli.app", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)


TINY = ("--width", "8", "--in-features", "8", "--batch", "4")


def test_measure_prints_one_record_as_json_and_nothing_else() -> None:
    done = run("measure", "--depth", "8", "--width", "256", "--batch", "512", "--json")
    assert done.returncode == 0
    assert done.stderr == ""
    record = json.loads(done.stdout)
    assert record["saved_bytes"] == 5_824_516
    assert record["passes"]["peak_live_bytes"] == "trace"


def test_an_outcome_other_than_ok_is_exit_code_3_and_still_a_record() -> None:
    done = run("measure", *TINY, "--inject", "kill", "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["outcome"] == "killed"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["measure", "--depth", "x"], ["--depth", "'x'", "integer"]),
        (["measure", "--depth", "-3"], ["depth", "-3", "whole number from 1"]),
        (["measure", "--depth", "1000000000"], ["depth", "1000000000", "65536"]),
        (["measure", "--hidden", "3,a"], ["--hidden", "3,a", "commas"]),
        (["measure", "--hidden", "3,4", "--depth", "7"], ["depth", "7", "--hidden gives 2"]),
        (["measure", "--activation", "rleu"], ["activation", "rleu", "did you mean relu"]),
        (["measure", "--dept", "3"], ["--dept", "--depth"]),
        (["measure", "--deadline", "nan"], ["--deadline", "nan"]),
        (["sweep", "depht_batch"], ["depht_batch", "did you mean depth_batch"]),
        (["report", "no/such/folder"], ["no/such/folder", "does not exist"]),
        (["no-such-command"], ["no-such-command"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    for word in words:
        assert word in printed.err


def test_a_results_folder_that_is_a_file_is_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("")
    assert main(["sweep", "depth_batch", "--quick", "--out", str(tmp_path / "taken")]) == 2
    assert "taken" in capsys.readouterr().err


def test_help_imports_nothing_heavy_and_shows_an_example() -> None:
    code = (
        "import sys\nfrom harness.cli.app import main\nmain(['--help'])\n"
        "print([m for m in ('torch', 'pandas', 'rich', 'msgspec') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Example: harness measure" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_command_shows_its_help() -> None:
    listed = run("--help").stdout
    for command in ("measure", "sweep", "report", "reproduce", "doctor"):
        assert command in listed
        assert run(command, "--help").returncode == 0


def test_doctor_says_what_can_be_measured_here() -> None:
    findings = json.loads(run("doctor", "--json").stdout)
    what = {finding["what"]: finding["available"] for finding in findings}
    assert what["machine"]
    assert any(name.startswith("isolated workers") and ok for name, ok in what.items())
    assert all(finding["detail"] for finding in findings)


@pytest.mark.parametrize("flags", [(), ("--model", "mlp-scratch", "--optimizer", "adam")])
def test_predict_and_measure_agree_in_every_byte_figure_that_both_state(
    flags: tuple[str, ...],
) -> None:
    measured = json.loads(run("measure", "--depth", "3", *TINY, *flags, "--json").stdout)
    predicted = json.loads(run("predict", "--depth", "3", *TINY, *flags, "--json").stdout)
    own = {"outcome", "wall_seconds", "environment", "rss_rise_bytes", "cuda"}
    both = measured.keys() & predicted.keys() - own
    assert {"saved_bytes", "peak_live_bytes", "phases", "categories_at_peak", "modules"} <= both
    for name in both:
        assert predicted[name] == measured[name], name


def test_predict_imports_no_torch_and_says_whether_it_fits() -> None:
    code = (
        "import sys\nfrom harness.cli.app import main\n"
        "main(['predict', '--depth', '8', '--budget', '256MiB', '--json'])\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    line, imported = done.stdout.splitlines()
    assert json.loads(line)["budget"]["fits"] is True
    assert imported == "False"
