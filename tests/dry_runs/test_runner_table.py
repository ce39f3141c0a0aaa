"""Tests of a project under a runner: each has a row, and the exit code is the runner's."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.app import main
from harness.cli.dry_run_command import dry_run as command
from harness.dry_runs.dry_run_report import DryRunReport
from harness.dry_runs.dry_run_sheet import dry_run_sheet
from harness.dry_runs.run import dry_run
from harness.plots.sheet import sheet_text

pytestmark = pytest.mark.usefixtures("cuda_build")

CASES = """
import unittest
class Cases(unittest.TestCase):
    def test_good(self): ...
    def test_bad(self): self.assertEqual(2.0, 2.5)
    def test_broken(self): raise OSError("no disk")
    @unittest.skip("why not")
    def test_skipped(self): ...
    @unittest.expectedFailure
    def test_odd(self): ...
"""
MEMORY = """
import pytest, torch
def take(mib): return torch.empty(mib << 20, dtype=torch.uint8, device="cuda")
def test_small():
    take(64)
    assert torch.cuda.max_memory_allocated() == 64 << 20
def test_planted():
    take(128)
    assert torch.cuda.max_memory_allocated() == 64 << 20
def test_value():
    assert torch.rand(4, device="cuda").sum().item() > 1
def test_host(): ...
def test_reset():
    take(32)
    torch.cuda.reset_accumulated_memory_stats()
    take(96)
    torch.cuda.reset_accumulated_memory_stats()
    assert torch.cuda.memory_stats()["allocation.all.allocated"] == 0
def test_process():
    said = "Traceback\\nAssertionError: 302 > 242\\nend"
    raise RuntimeError("Process 1 exited and exception:\\n" + said)
"""


def _run(folder: Path, text: str, *words: object, module: str) -> DryRunReport:
    (folder / "memory_cases.py").write_text(text)
    environment = {"PYTHONPATH": str(folder)}
    return dry_run(
        module, *words, module=True, environment=environment, quiet=True, gpu="l4", compute="none"
    )


@pytest.mark.quick
def test_each_test_of_unittest_has_a_row(tmp_path: Path) -> None:
    report = _run(tmp_path, CASES, "memory_cases", module="unittest")
    rows = {one.name.rpartition(".")[2]: (one.outcome, one.why) for one in report.tests}
    assert rows == {
        "test_good": ("passed", None),
        "test_bad": ("failed", "AssertionError: 2.0 != 2.5"),
        "test_broken": ("failed", "OSError: no disk"),
        "test_skipped": ("skipped", "why not"),
        "test_odd": ("failed", "unexpected success"),
    }
    assert report.exit_code == 1
    text = sheet_text(dry_run_sheet(report, "unittest"))
    assert "Tests (5), 3 failed, 1 passed, 1 skipped:" in text


@pytest.mark.quick
def test_an_interrupted_test_has_not_passed(tmp_path: Path) -> None:
    text = "def test_long(): raise KeyboardInterrupt"  # as at the deadline
    words = ("-q", "-p", "no:cacheprovider", tmp_path / "memory_cases.py")
    (test,) = _run(tmp_path, text, *words, module="pytest").tests
    assert (test.outcome, test.why) == ("failed", "the test did not end: KeyboardInterrupt")


@pytest.mark.quick
def test_the_exit_code_is_the_runner_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "memory_cases.py").write_text(CASES)
    words = ["--gpu", "l4", "-m", "unittest", "-q", "memory_cases"]
    done = CliRunner().invoke(command, words, standalone_mode=False)
    assert "Tests (5)" in done.output
    assert done.return_value == 1


@pytest.mark.slow
def test_a_run_with_a_test_that_is_not_known_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "import torch\ndef test_it(): assert int(torch.rand(4, device='cuda').sum()) == 0\n"
    (tmp_path / "memory_cases.py").write_text(text)
    words = ["--compute", "none", "--gpu", "l4", "-m", "pytest", "-q", "memory_cases.py"]
    done = CliRunner().invoke(command, words, standalone_mode=False)
    assert "Tests (1), 1 not known:" in done.output
    assert done.return_value == 1


@pytest.mark.slow
def test_a_test_of_pytest_has_its_memory_and_one_on_unknown_values_does_not_pass(
    tmp_path: Path,
) -> None:
    words = ("-q", "-p", "no:cacheprovider", tmp_path / "memory_cases.py")
    report = _run(tmp_path, MEMORY, *words, module="pytest")
    rows = {one.name.rpartition("::")[2]: one for one in report.tests}
    assert {name: one.outcome for name, one in rows.items()} == {
        "test_small": "passed",
        "test_planted": "failed",
        "test_value": "not known",
        "test_host": "passed",
        "test_reset": "passed",
        "test_process": "failed",
    }
    assert rows["test_process"].why == "AssertionError: 302 > 242"
    assert report.devices[0].requested_total_bytes > (64 + 128 + 32 + 96) << 20
    peaks = [one.requested_peak_bytes for one in rows.values()]
    assert peaks[:2] == [64 << 20, 128 << 20]
    assert peaks[3] is None
    assert 0 <= (peaks[4] or 0) - (96 << 20) < 64  # next to what the failure of test_value holds
    assert rows["test_value"].why == (
        f"decided by values that nobody knows, at {tmp_path}/memory_cases.py:11"
    )


UNKNOWN = """
import subprocess, sys, pytest, torch
def drawn(): return torch.rand(4, device="cuda")
def above(values): return bool((values > 2).any())
@pytest.mark.parametrize("again", [0, 1])
def test_same_line(again): assert drawn().sum().item() < 9
def test_helper(): assert not above(drawn())
def test_helper_again(): assert not above(drawn())
def test_whole(): assert int(drawn().sum()) == 0
def test_size():
    torch.cuda.reset_peak_memory_stats()
    values = torch.rand(1 << 20, device="cuda")
    values[values > 0.5]
    assert torch.cuda.max_memory_allocated() < 1 << 30
def test_text(): assert str(drawn().sum().item()) == "0.0"
def test_array(): assert drawn().cpu().numpy().sum() == 0
def test_swallowed():
    try: assert drawn().sum().item() > 5
    except AssertionError: pass
def test_process():
    code = "import torch; assert torch.rand(4, device='cuda').sum().item() < 9"
    subprocess.run([sys.executable, "-c", code], check=True)
"""


def test_no_test_that_uses_unknown_values_has_passed(tmp_path: Path) -> None:
    """Its outcome is not known if it would pass, would fail, or if another one used its line."""
    report = _run(tmp_path, UNKNOWN, "-q", tmp_path / "memory_cases.py", module="pytest")
    assert len(report.tests) == 10
    assert {one.outcome for one in report.tests} == {"not known"}


OFFLOADED = """
import pytest, torch
from torch import distributed as dist
from torch.distributed.fsdp import CPUOffloadPolicy, fully_shard
dist.init_process_group("nccl")

def gradient():
    layer = torch.nn.Linear(64, 64, bias=False)
    fully_shard(layer, offload_policy=CPUOffloadPolicy())
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.zeros(8, 64, device="cuda")).sum().backward()
    optimizer.step()
    return layer.weight.grad.to_local()

def test_memory():
    gradient()
    assert torch.cuda.memory_allocated() < 1 << 20

def test_value():
    assert gradient().sum() == 0

def test_planted():  # a run that fails tries other values for those that passed
    assert 1 == 2
"""


@pytest.mark.slow
def test_an_offloaded_gradient_refuses_only_what_other_values_turn(tmp_path: Path) -> None:
    """An optimizer on the host works with gradients that nobody knows; their memory is known."""
    (tmp_path / "memory_cases.py").write_text(OFFLOADED)
    words = ("-q", "-p", "no:cacheprovider", tmp_path / "memory_cases.py")
    report = dry_run(
        "pytest", *words, module=True, quiet=True, gpu="l4", world_size=2, compute="none"
    )
    rows = {one.name.rpartition("::")[2]: (one.outcome, one.why) for one in report.tests}
    assert rows["test_memory"] == ("passed", None)
    assert rows["test_value"][0] == "not known"
    assert rows["test_planted"][0] == "failed"
    assert report.exit_code == 1


SESSION = """
import unittest, torch
def drawn(): return torch.rand(4, device="cuda").sum().item()
class Cases(unittest.TestCase):
    def test_known(self): assert torch.ones(4, device="cuda").numel() == 4
    def test_low(self): assert drawn() < 9
    def test_high(self): assert drawn() > 9
    @unittest.expectedFailure
    def test_late(self): assert drawn() < 9
"""
SAID = {
    "pytest": ("3 failed, 1 passed", "1 passed, 3 skipped"),
    "pytest -n 2": ("3 failed, 1 passed", "1 passed, 3 skipped"),
    "unittest": ("FAILED (failures=2, unexpected successes=1)", "OK (skipped=3)"),
}


@pytest.mark.slow
@pytest.mark.parametrize("passes", [False, True])
@pytest.mark.parametrize("runner", SAID)
def test_the_runner_itself_says_that_a_test_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    runner: str, passes: bool,
) -> None:  # fmt: skip
    """It fails, or is skipped with --unknown-passes, in the runner's words and exit code."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "memory_cases.py").write_text(SESSION)
    module, *words = runner.split()
    target = "memory_cases.py" if module == "pytest" else "memory_cases"
    flags = ["--json", "--compute", "none", *["--unknown-passes"] * passes]
    code = main(["dry-run", *flags, "--gpu", "l4", "-m", module, *words, target])
    out, err = capfd.readouterr()
    assert SAID[runner][passes] in out + err
    assert "not known: decided by values that nobody knows, at" in out + err or passes
    assert code == (0 if passes else 1)
    tests = json.loads(out.splitlines()[-1])["tests"]
    found = {one["name"].rpartition("test_")[2]: one["outcome"] for one in tests}
    unknown = dict.fromkeys(("high", "low", "late"), "not known")
    assert found == {"known": "passed"} | unknown
    assert len(tests) == len(found)


@pytest.mark.slow
def test_what_pytest_writes_for_its_user_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    elsewhere = tmp_path.with_name(f"{tmp_path.name}-elsewhere")
    elsewhere.mkdir()
    text = "import pathlib\ndef test_a(): pathlib.Path('own').touch(); assert 0\ndef test_b(): ..."
    (tmp_path / "memory_cases.py").write_text(text)
    (tmp_path / "linked").symlink_to(elsewhere)
    words = ["memory_cases.py", "--junitxml=linked/junit.xml"]
    first = dry_run("pytest", *words, module=True, gpu="l4", quiet=True)
    assert [one.outcome for one in first.tests] == ["failed", "passed"]
    assert not [*elsewhere.iterdir()]  # nothing is written through a link
    words = ["memory_cases.py", "--junitxml=junit.xml", "--lf"]
    second = dry_run("pytest", *words, module=True, gpu="l4", quiet=True)
    assert [one.outcome for one in second.tests] == ["failed"]  # by the cache of the first session
    assert 'failures="1"' in (tmp_path / "junit.xml").read_text()
    kept = {"memory_cases.py", "linked", "junit.xml", ".pytest_cache"}
    assert {one.name for one in tmp_path.iterdir()} == kept
    words = ["memory_cases.py", "-o", "cache_dir=.", "--junitxml=other.xml"]
    dry_run("pytest", *words, module=True, gpu="l4", quiet=True)  # not what the tests write there
    words = ["memory_cases.py", "-p", "no:cacheprovider", "--junitxml=third.xml"]
    dry_run("pytest", *words, module=True, gpu="l4", quiet=True)
    assert {one.name for one in tmp_path.iterdir()} == kept | {"other.xml", "third.xml"}
