"""A pull request in miniature: a layer is widened, the test fails and names it."""

import json
import re
from importlib.metadata import entry_points, version
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from msgspec.structs import replace

from harness.budgets.pytest_plugin import _limit
from harness.budgets.step_memory import (
    Baseline,
    BaselineError,
    MemoryUse,
    growth,
    measured,
    predicted,
)
from harness.dry_runs.dry_run_report import Device
from harness.schema.errors import HarnessError
from harness.schema.growth import Growth
from harness.schema.metrics import CudaPeaks

pytest_plugins = ["pytester"]

INSTALLED = any(
    entry.value == "harness.budgets.pytest_plugin" for entry in entry_points(group="pytest11")
)
"""Whether pytest loads the plugin by itself, as it does in an installed distribution."""
PLUGIN = (*(() if INSTALLED else ("-p", "harness.budgets.pytest_plugin")), "-p", "no:cacheprovider")
MODEL = """
def build():
    from torch import nn

    return nn.Sequential(nn.Linear(64, {width}), nn.ReLU(), nn.Linear({width}, 10))
"""
TEST = """
import pytest
from model import build

@pytest.mark.memory({marker})
def test_the_model_keeps_its_budget(memory):
    use = memory(build, batch=32, inputs=(64,){more})
    assert use.peak_bytes > 0
"""


@pytest.fixture(scope="module", autouse=True)
def _torch_is_loaded() -> None:
    """Load PyTorch and what predicting imports before pytester notes the modules to keep."""

    def build() -> torch.nn.Module:
        return torch.nn.Linear(4, 2)

    here = predicted(build, 2, gpu=None, inputs=(4,))
    predicted(build, 2, gpu="l4", inputs=(4,))
    step = measured(build, 2, gpu=None, inputs=(4,))
    assert (here.method, step.method) == ("estimate", "measured")
    assert step.peak_bytes == here.peak_bytes


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess(*PLUGIN, *arguments)


def write(pytester: pytest.Pytester, width: int, marker: str = "", more: str = "") -> None:
    pytester.makepyfile(
        model=MODEL.format(width=width), test_model=TEST.format(marker=marker, more=more)
    )


def test_a_widened_layer_fails_and_the_updated_baseline_passes(pytester: pytest.Pytester) -> None:
    write(pytester, 256)
    missing = run(pytester)
    missing.assert_outcomes(failed=1)
    missing.stdout.fnmatch_lines(["*no budget and no baseline; run pytest --memory-update*"])
    run(pytester, "--memory-update").assert_outcomes(passed=1)
    run(pytester).assert_outcomes(passed=1)
    before = json.loads((pytester.path / "memory-baseline.json").read_text())

    write(pytester, 1024)
    failed = run(pytester)
    failed.assert_outcomes(failed=1)
    # Parameters and gradients of layer 0: 768 more outputs x 65 numbers x 2 x 4 bytes = 390 KiB.
    failed.stdout.fnmatch_lines(
        ["*above the baseline of*", "*layer 0 grew by 390 KiB*", "*pytest --memory-update*"]
    )
    run(pytester, "--memory-update").assert_outcomes(passed=1)
    run(pytester).assert_outcomes(passed=1)
    after = json.loads((pytester.path / "memory-baseline.json").read_text())
    (name,) = before["tests"]
    grown = after["tests"][name]["layers"]["0"] - before["tests"][name]["layers"]["0"]
    assert grown == 768 * 65 * 2 * 4


@pytest.mark.slow
def test_a_budget_on_a_gpu_is_checked_without_one(pytester: pytest.Pytester) -> None:
    write(pytester, 256, 'peak="40MiB", gpu="l4"')
    run(pytester).assert_outcomes(passed=1)
    write(pytester, 256, 'peak="1MiB", gpu="l4"')
    failed = run(pytester)
    failed.assert_outcomes(failed=1)
    failed.stdout.fnmatch_lines(["*memory: * peak * is * above 1 MiB*", "*layer * holds *"])


@pytest.mark.parametrize(
    ("marker", "more", "message"),
    [
        ('peak="much"', "", "*peak='much'*"),
        ('peek="1MiB"', "", "*takes peak, gpu, tolerance and growth only*"),
        ("peak=1.5", "", "*peak must be a size such as*whole bytes, got 1.5*"),
        ("peak=0", "", "*peak must be a size such as*got 0*"),
        ("peak=2**63", "", "*peak must be a size such as*"),
        ('peak="1GiB", tolerance=0.01', "", "*tolerance must be between*got 0.01*"),
        ('gpu="no-such-gpu", peak="1GiB"', "", "*memory: *no-such-gpu*"),
        ('peak="1GiB", gpu="l4"', ", measure=True", "*needs a CUDA device*"),
    ],
)
def test_a_mistake_is_one_line_without_a_traceback(
    pytester: pytest.Pytester, marker: str, more: str, message: str
) -> None:
    write(pytester, 16, marker, more)
    result = run(pytester)
    assert result.ret == 1
    result.stdout.fnmatch_lines([message])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*another exception*")


@pytest.mark.parametrize(("value", "said"), [(1.5, "growth must be"), ("much", "growth='much'")])
def test_a_wrong_growth_is_not_called_a_peak(value: object, said: str) -> None:
    with pytest.raises(HarnessError, match=said):
        _limit(value, "growth")


def use(**layers: int) -> MemoryUse:
    return MemoryUse(peak_bytes=sum(layers.values()), layers=layers, method="formula")


def test_what_grew_most_comes_first_and_equal_blocks_are_one_line() -> None:
    answer = growth(use(a=100, b=3000, c=5, d=10), use(a=50, b=1000, c=9))
    assert [line.split()[1] for line in answer] == ["b", "a", "d"]
    assert answer[2] == "layer d is new, with 10 B"
    sizes = {f"blocks.{at}.up": 100 for at in range(12)}
    answer = growth(use(**{**sizes, "head": 7}), use(**dict.fromkeys(sizes, 40), head=6))
    assert answer == [
        "each of the 12 layers blocks.0–11.up grew by 60 B (40 B to 100 B)",
        "layer head grew by 1 B (6 B to 7 B)",
    ]


def test_a_damaged_baseline_is_named(tmp_path: Path) -> None:
    path = tmp_path / "memory-baseline.json"
    baseline = Baseline(path)
    for name in ("one", "two"):
        baseline.put(name, use(a=1))
    assert (baseline.get("one"), baseline.get("three")) == (use(a=1), None)
    path.write_text(f'{{"schema": 1, "tests": {{"one": {ENTRY}}}}}')
    assert baseline.get("one") == use(a=1), "an entry of an earlier version"
    for text in ("", "[]", "\xff", "[" * 100_000, '{"schema": 2}', '{"schema": 1, "tests": []}'):
        path.write_text(text, encoding="latin-1")
        with pytest.raises(BaselineError, match="no memory baseline") as raised:
            baseline.get("one")
        assert "\n" not in str(raised.value)
    with pytest.raises(BaselineError, match="No such file or directory"):
        Baseline(tmp_path / "none" / "memory-baseline.json").put("one", use(a=1))


ENTRY = '{"gpu": null, "layers": {"a": 1}, "method": "formula", "peak_bytes": 1}'


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (ENTRY.replace('"peak_bytes": 1', '"peak_bytes": "999999999999"'), "Expected `int`"),
        (ENTRY.replace('"peak_bytes": 1', '"peak_bytes": 9223372036854775808'), "2"),
        (ENTRY.replace('"peak_bytes": 1', '"peak_bytes": 1e999'), "out of range"),
        (ENTRY.replace('"peak_bytes": 1', '"peak_bytes": NaN'), "NaN is not a number of JSON"),
        (ENTRY.replace('"peak_bytes": 1', '"peak_bytes": -1'), ">= 0"),
        (ENTRY.replace('"peak_bytes": 1', '"peak_bytes": 1, "peak_bytes": 2'), "given twice"),
        (ENTRY.replace('{"a": 1}', '{"a": 1, "a": 9}'), "a: given twice"),
        (ENTRY.replace('{"a": 1}', '{"a": "1"}'), "Expected `int`"),
        (ENTRY.replace("formula", "guessed"), "guessed"),
        (f'{ENTRY}, "one": {ENTRY}', "one: given twice"),
    ],
)
def test_a_damaged_entry_is_refused_in_one_line(tmp_path: Path, entry: str, why: str) -> None:
    path = tmp_path / "memory-baseline.json"
    path.write_text(f'{{"schema": 1, "tests": {{"one": {entry}}}}}')
    before = path.read_bytes()
    for act in (Baseline(path).get, lambda name: Baseline(path).put(name, use(a=1))):
        with pytest.raises(BaselineError) as raised:
            act("one")
        one_line = f".*no memory baseline: .*{re.escape(why)}.*"
        assert re.fullmatch(one_line, str(raised.value))
    assert path.read_bytes() == before


FAILED = {"failed": 1}


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ("def test_it(): pass", FAILED),
        ("def test_it(memory): pass", FAILED),
        ("class TestIt:\n    def test_it(self): pass", FAILED),
        ("from unittest import TestCase\nclass It(TestCase):\n    def test_it(self): pass", FAILED),
        ("def test_it(): pytest.skip('not here')", {"skipped": 1}),
        ("@pytest.mark.xfail(strict=True)\ndef test_it(): assert False", {"xfailed": 1}),
    ],
)
def test_a_marked_test_that_checks_no_step_fails(
    pytester: pytest.Pytester, body: str, outcome: dict[str, int]
) -> None:
    marked = 'import pytest\n\npytestmark = pytest.mark.memory(peak="1MiB")\n\n'
    pytester.makepyfile(test_it=marked + body)
    result = run(pytester)
    result.assert_outcomes(**outcome)
    if outcome is FAILED:
        result.stdout.fnmatch_lines(["*has the marker but checked no step*"])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that need as many bytes as they say."""

    def steps(_: object, batch: int, **__: object) -> MemoryUse:
        return replace(use(a=batch * 1000), torch=version("torch"))

    monkeypatch.setattr("harness.budgets.step_memory.predicted", steps)


@pytest.fixture
def updated(pytester: pytest.Pytester, quick: None) -> Path:
    """The baseline of a test, which ``--memory-update`` has written."""
    write(pytester, 16)
    before = {path.name for path in pytester.path.iterdir()}
    run(pytester, "--memory-update").assert_outcomes(passed=1)
    after = {path.name for path in pytester.path.iterdir()} - {"__pycache__"}
    assert after - before == {"memory-baseline.json"}, "nothing else stays in the repository"
    return pytester.path / "memory-baseline.json"


def at_peak(baseline: Path, peak_bytes: int) -> None:
    text = re.sub('"peak_bytes": [0-9]+', f'"peak_bytes": {peak_bytes}', baseline.read_text())
    baseline.write_text(text)


def test_the_baseline_says_which_pytorch_it_is_of(pytester: pytest.Pytester, updated: Path) -> None:
    here = version("torch")
    assert f'"torch": "{here}"' in updated.read_text()
    at_peak(updated, 1000)
    run(pytester).stdout.no_fnmatch_line("*PyTorch has changed*")
    updated.write_text(updated.read_text().replace(here, "2.1.0"))
    failed = run(pytester)
    failed.assert_outcomes(failed=1)
    failed.stdout.fnmatch_lines([f"*PyTorch has changed too: 2.1.0 in the baseline, {here} here*"])


def test_a_growth_within_the_tolerance_passes(pytester: pytest.Pytester, updated: Path) -> None:
    (entry,) = json.loads(updated.read_text())["tests"].values()
    before = entry["peak_bytes"] * 100 // 101
    for marker, peak, outcome in (
        ('tolerance="1%"', before + 1, "passed"),
        ('tolerance="1%"', before - 1, "failed"),
        ("", before - 1, "failed"),
    ):
        write(pytester, 16, marker)
        at_peak(updated, peak)
        run(pytester).assert_outcomes(**{outcome: 1})
    run(pytester, "-o", "memory_tolerance=3%").assert_outcomes(passed=1)


TWICE = """
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):
    runtestprotocol(item, nextitem=nextitem, log=False)
    for report in runtestprotocol(item, nextitem=nextitem, log=False):
        item.ihook.pytest_runtest_logreport(report=report)
    return True
"""


def test_a_test_that_is_run_again_is_held_to_the_same_baseline(
    pytester: pytest.Pytester, updated: Path
) -> None:
    write(pytester, 16, 'peak="1GiB"')
    at_peak(updated, 1000)
    pytester.makeconftest(TWICE)
    run(pytester).assert_outcomes(failed=1)


def test_a_baseline_of_another_method_is_not_compared(
    pytester: pytest.Pytester, updated: Path
) -> None:
    updated.write_text(updated.read_text().replace('"formula"', '"dry run"'))
    failed = run(pytester)
    failed.assert_outcomes(failed=1)
    failed.stdout.fnmatch_lines(["*two kinds of numbers: dry run (cpu) and formula (cpu); run*"])
    run(pytester, "--memory-update").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("marks", "body", "message"),
    [
        (1, "t = Thread(target=memory, args=(None, 1)); t.start(); t.join()", "*above 1 B*"),
        (1, "try: memory(None, 1)\n    except BaseException: pass", "*above 1 B*"),
        (2, "memory(None, 1)", "*a test takes one marker, got several*"),
    ],
    ids=["thread", "swallowed", "two markers"],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_check_in_a_thread_or_with_two_budgets_fails(
    pytester: pytest.Pytester, quick: None, marks: int, body: str, message: str
) -> None:
    marked = '@pytest.mark.memory(peak="1B")\n' * marks
    head = "import pytest\nfrom threading import Thread\n"
    pytester.makepyfile(test_it=f"{head}{marked}def test_it(memory):\n    {body}\n")
    failed = run(pytester, "-W", "ignore")
    assert failed.ret == 1
    failed.stdout.fnmatch_lines([message])


GROWING = """
import torch

def train(keep):
    net = torch.nn.Linear(64, 64).cuda()
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    kept = []
    for _ in range(8):
        loss = net(torch.randn(8, 64).cuda()).square().mean()
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        kept.append(loss if keep else loss.item())
"""
GROWTH_TEST = """
import pytest
from training import train

@pytest.mark.memory(growth=0, gpu="l4")
@pytest.mark.parametrize("keep", [True, False])
def test_training_keeps_nothing(memory, keep):
    memory(train, keep)
"""


@pytest.mark.slow
@pytest.mark.skipif(torch.version.cuda is None, reason="needs a CUDA build of PyTorch")
def test_a_step_that_leaves_more_fails_with_the_line(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(training=GROWING, test_growth=GROWTH_TEST)
    found = run(pytester)
    found.assert_outcomes(failed=1, passed=1)
    found.stdout.fnmatch_lines(
        [
            "*more stays alive after each step*",
            "*512 B more a step*",
            "*training.py:* train",
            "*kept holds * tensors of the GPU, * with the graphs that made them*",
        ]
    )


@pytest.mark.parametrize("per_step_bytes", [0, 4_096])
def test_growth_of_the_host_fails_a_marked_test_too(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, per_step_bytes: int
) -> None:
    level = Growth(kind="plateau", reason="nothing more is kept")
    leak = Growth(kind="leak", reason="again and again", per_step_bytes=per_step_bytes)
    device = Device(index=0, peaks=CudaPeaks(), allocations=1, growth=level)
    parts = SimpleNamespace(
        growth=leak if per_step_bytes else level, limit_source=None, limit_bytes=None,
        peak_bytes=(1, 1),
    )  # fmt: skip
    report = SimpleNamespace(
        outcome="ok", devices=(device,), host=parts, optimizer_steps=9, cuda=CudaPeaks(),
        gpu_total_bytes=1 << 40, outside_bytes=(0, 0),
    )  # fmt: skip
    monkeypatch.setattr("harness.dry_runs.run.dry_run", lambda *_, **__: report)
    marked = "import pytest\n\n@pytest.mark.memory(growth=0)\ndef test_it(memory):\n"
    pytester.makepyfile(test_it=f"{marked}    memory('train.py')\n")
    result = run(pytester)
    result.assert_outcomes(**{"failed" if per_step_bytes else "passed": 1})
    if per_step_bytes:
        result.stdout.fnmatch_lines(["*Growth of the host: 4 KiB more a step; again and again.*"])
