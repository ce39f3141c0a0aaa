"""The pytest plugin: ``@pytest.mark.memory(peak="900MiB", gpu="l4")`` and the ``memory`` fixture.

    @pytest.mark.memory(peak="900MiB", gpu="l4")
    def test_the_encoder_fits(memory):
        memory(build_encoder, batch=32, inputs=(3, 224, 224), optimizer="adamw")

    @pytest.mark.memory(growth=0, gpu="l4")
    def test_training_keeps_nothing(memory):
        memory("train.py", "--epochs", "1", steps=20)

The fixture predicts the memory of a training step, and the prediction is the same in every run.
With ``measure=True``, or with ``--memory-measure`` for all tests, the fixture runs and measures the
step instead. The test fails if the peak exceeds the marker's ``peak`` or the peak in the baseline
file. ``--memory-update`` writes the baseline file. The error message names the layers that grew.
With ``growth``, the fixture dry-runs a script or a function. With ``growth``, the test fails if
live memory grows by more than ``growth`` bytes per optimizer step. The error message names the
lines of code that add memory. A test with the marker also fails if it never calls the fixture. Only
a call of the fixture imports PyTorch, because every pytest run loads the plugin.

``pytest --pretend-gpu l4`` runs the whole session on a pretended GPU.
"""

from collections.abc import Callable, Generator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:
    from harness.budgets.step_memory import Baseline, MemoryUse
    from harness.dry_runs.dry_run_report import DryRunReport

MARKER = (
    "memory(peak=None, gpu=None, tolerance=None, growth=None): most memory that a training step of"
    " the test may need, or most bytes by which it may grow from step to step"
)
_CALLS = pytest.StashKey[int]()
"""Key under which the number of a test's checked steps is stored."""
_PROBLEM = pytest.StashKey[str]()
"""Key under which a failed check's message is stored, as a test may catch the exception."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the command-line options and the settings of the plugin."""
    group = parser.getgroup("memory budgets (mlp-memory-harness)")
    group.addoption(
        "--memory-update", action="store_true", help="Write what the tests need as the baseline."
    )
    group.addoption(
        "--memory-measure", action="store_true", help="Measure the steps instead of predicting."
    )
    group.addoption(
        "--pretend-gpu", metavar="NAME", help="Run the session on a pretended GPU, e.g. l4."
    )
    group.addoption(
        "--pretend-gpus", type=int, default=1, metavar="N", help="Number of pretended GPUs.  [1]"
    )
    group.addoption(
        "--unknown-passes",
        action="store_true",
        help="With --pretend-gpu: skip a test whose outcome is not known, as it is not computed.",
    )
    parser.addini(
        "memory_baseline", "Baseline file of memory budgets.", default="memory-baseline.json"
    )
    parser.addini(
        "memory_tolerance", "Growth above the baseline that passes, such as 1%.", default="0%"
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, object, object]:
    """Start the session again on a pretended GPU, before pytest captures the output."""
    given = early_config.known_args_namespace
    if given.pretend_gpu is not None:
        from harness.budgets.pretended_session import is_pretended, start_again

        if not is_pretended():
            options = ["--gpu", given.pretend_gpu, "--gpus", str(given.pretend_gpus)]
            options += ["--unknown-passes"] * given.unknown_passes
            start_again(options, early_config.invocation_params.args)
    elif given.unknown_passes:
        raise pytest.UsageError("--unknown-passes needs --pretend-gpu, or goes to harness dry-run")
    return (yield)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker ``memory``."""
    config.addinivalue_line("markers", MARKER)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Clear the stored results of a test, because pytest may run the test again."""
    item.stash[_CALLS], item.stash[_PROBLEM] = 0, ""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test that passed although it checked no step, or although a check failed."""
    result = yield
    if problem := item.stash.get(_PROBLEM, ""):
        pytest.fail(problem, pytrace=False)
    if item.get_closest_marker("memory") is not None and not item.stash.get(_CALLS, 0):
        rule = "call the fixture memory with the model, or remove the marker"
        pytest.fail(f"memory: the test has the marker but checked no step; {rule}", pytrace=False)
    return result


class MemoryBudget:
    """The ``memory`` fixture of one test; a call with a model checks the test's budget."""

    def __init__(self, item: pytest.Item, baseline: "Baseline") -> None:
        self._item = item
        self._baseline = baseline
        self._update = bool(item.config.getoption("memory_update"))
        self._measure = bool(item.config.getoption("memory_measure"))
        marker = item.get_closest_marker("memory")
        if len(list(item.iter_markers("memory"))) > 1:
            pytest.fail("memory: a test takes one marker, got several", pytrace=False)
        given = {} if marker is None else dict(marker.kwargs)
        self._peak, self._gpu = given.pop("peak", None), given.pop("gpu", None)
        self._tolerance = given.pop("tolerance", None)
        self._growth: object = given.pop("growth", None)
        if self._tolerance is None:
            self._tolerance = item.config.getini("memory_tolerance")
        if given or (marker is not None and marker.args):
            rule = "the memory marker takes peak, gpu, tolerance and growth only"
            pytest.fail(f"{rule}: {MARKER}", pytrace=False)

    def __call__(
        self,
        build: Callable[..., Any] | str | Path,
        *arguments: Any,
        measure: bool | None = None,
        gpu: str | None = None,
        **options: Any,
    ) -> "MemoryUse | DryRunReport":
        """Predict or measure a step of the network ``build()``, with harness.predict's options.

        If the marker has ``growth``, dry-run a script or a function, like harness.dry_run.
        """
        from harness.budgets.step_memory import measured, predicted
        from harness.schema.errors import HarnessError
        from harness.schema.units import parse_share

        use_measure = self._measure if measure is None else measure
        how = measured if use_measure else predicted
        calls = self._item.stash.get(_CALLS, 0) + 1
        self._item.stash[_CALLS] = calls
        name = self._item.nodeid if calls == 1 else f"{self._item.nodeid}#{calls}"
        try:
            limit, tolerance = _limit(self._peak), parse_share(self._tolerance)
            options["gpu"] = gpu or self._gpu
            use: MemoryUse | DryRunReport
            if self._growth is not None:
                use, problem = _growth_problem(build, arguments, self._growth, limit, options)
            else:
                use = how(cast("Callable[[], Any]", build), *arguments, **options)
                problem = self._problem(name, use, limit, tolerance)
        except HarnessError as error:
            problem = f"memory: {error}"
        if problem:
            self._item.stash[_PROBLEM] = problem
            pytest.fail(problem, pytrace=False)
        return use

    def _problem(self, name: str, use: "MemoryUse", limit: int | None, tolerance: Fraction) -> str:
        """Return the reason why the test fails, or "" if the test passes."""
        from harness.budgets.step_memory import growth, largest

        baseline = self._baseline.get(name)
        if baseline is not None and (baseline.method, baseline.gpu) != (use.method, use.gpu):
            if not self._update:
                kinds = " and ".join(
                    f"{one.method} ({one.gpu or 'cpu'})" for one in (baseline, use)
                )
                return (
                    f"memory: the baseline of {name} and this step are two kinds of numbers:"
                    f" {kinds}; run pytest --memory-update to make it anew"
                )
            baseline = None
        changes = [] if baseline is None else growth(use, baseline)
        if limit is not None and use.peak_bytes > limit:
            lines = changes or largest(use)
            return "\n".join([_above(use, limit, ""), *lines, *_other_torch(use, baseline)])
        if self._update:
            self._baseline.put(name, use)
        elif baseline is not None and use.peak_bytes > baseline.peak_bytes * (1 + tolerance):
            advice = "if this is meant, run pytest --memory-update and commit the baseline"
            head = _above(use, baseline.peak_bytes, "the baseline of ")
            return "\n".join([head, *changes, *_other_torch(use, baseline), advice])
        elif baseline is None and limit is None:
            return f"memory: {name} has no budget and no baseline; run pytest --memory-update"
        return ""


def _growth_problem(
    target: Callable[..., Any] | str | Path,
    arguments: tuple[Any, ...],
    growth: object,
    limit: int | None,
    options: dict[str, Any],
) -> "tuple[DryRunReport, str]":
    """Dry-run a target; return the report, and the reason why the test fails ("" if it passes)."""
    from harness.dry_runs.dry_run_sheet import growth_lines
    from harness.dry_runs.run import dry_run
    from harness.schema.units import format_bytes

    most = _limit(growth, "growth") if growth else 0
    report = dry_run(target, *arguments, **({"quiet": True} | options))
    growths = [device.growth for device in report.devices if device.growth is not None]
    lines = list(growth_lines(report))
    peak = report.cuda.allocated_peak_bytes or 0
    if report.outcome != "ok":
        return report, f"memory: the dry run ended with {report.outcome}: {report.evidence}"
    if limit is not None and peak > limit:
        over = format_bytes(peak - limit)
        return (
            report,
            f"memory: dry run peak {format_bytes(peak)} is {over} above {format_bytes(limit)}",
        )
    if not growths or any(one.kind == "unknown" for one in growths):
        reasons = "; ".join(one.reason for one in growths) or "nothing ran on the GPU"
        return report, f"memory: the growth is not known: {reasons}"
    if report.host is not None and report.host.growth is not None:
        growths.append(report.host.growth)
    if any(one.per_step_bytes > (most or 0) for one in growths):
        return report, "\n".join(["memory: more stays alive after each step", *lines])
    return report, ""


def _limit(size: object, name: str = "peak") -> int | None:
    """Return the value of the marker's ``peak`` or ``growth`` in bytes."""
    from harness.schema.errors import HarnessError
    from harness.schema.units import parse_bytes

    if size is None or (isinstance(size, int) and not isinstance(size, bool) and 0 < size < 2**63):
        return size
    if not isinstance(size, str):
        raise HarnessError(f'{name} must be a size such as "900MiB" or whole bytes, got {size!r}')
    try:
        return parse_bytes(size)
    except ValueError as error:
        raise HarnessError(f"{name}={size!r}: {error}") from None


def _above(use: "MemoryUse", limit: int, what: str) -> str:
    from harness.schema.units import format_bytes

    peak, over = format_bytes(use.peak_bytes), format_bytes(use.peak_bytes - limit)
    return f"memory: {use.method} peak {peak} is {over} above {what}{format_bytes(limit)}"


def _other_torch(use: "MemoryUse", baseline: "MemoryUse | None") -> list[str]:
    """Return a remark if the baseline was made with another version of PyTorch."""
    if baseline is None or baseline.torch in (None, use.torch):
        return []
    return [f"PyTorch has changed too: {baseline.torch} in the baseline, {use.torch} here"]


@pytest.fixture
def memory(request: pytest.FixtureRequest) -> MemoryBudget:
    """Return a function that predicts or measures a step and checks the test's memory budget."""
    from harness.budgets.step_memory import Baseline

    path = Path(request.config.rootpath) / str(request.config.getini("memory_baseline"))
    return MemoryBudget(request.node, Baseline(path))
