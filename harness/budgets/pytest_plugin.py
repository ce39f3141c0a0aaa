"""The pytest plugin: ``@pytest.mark.memory(peak="900MiB", gpu="l4")`` and the ``memory`` fixture.

    @pytest.mark.memory(peak="900MiB", gpu="l4")
    def test_the_encoder_fits(memory):
        memory(build_encoder, batch=32, input_shape=(3, 224, 224), optimizer="adamw")

The fixture predicts a training step; bytes do not vary from run to run. ``measure=True``, or
``--memory-measure`` for all tests, runs the step instead. The test fails if the peak is above the
marker's ``peak`` or above the baseline file, which ``--memory-update`` writes; the failure names
the layers that grew. The plugin is loaded by every pytest run where the harness is installed: it
imports nothing heavy, and PyTorch only when the fixture is called.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness.budgets.baseline import Baseline
    from harness.budgets.memory_use import MemoryUse

MARKER = "memory(peak=None, gpu=None): most memory that a training step of the test may need"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options and the name of the baseline file."""
    group = parser.getgroup("memory budgets (mlp-memory-harness)")
    group.addoption(
        "--memory-update", action="store_true", help="Write what the tests need as the baseline."
    )
    group.addoption(
        "--memory-measure", action="store_true", help="Measure the steps instead of predicting."
    )
    parser.addini(
        "memory_baseline", "Baseline file of memory budgets.", default="memory-baseline.json"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", MARKER)


class MemoryBudget:
    """The ``memory`` fixture of one test; called with a model, it checks the test's budget."""

    def __init__(
        self, name: str, baseline: "Baseline", marker: pytest.Mark | None, config: pytest.Config
    ) -> None:
        self._name = name
        self._baseline = baseline
        self._update = bool(config.getoption("memory_update"))
        self._measure = bool(config.getoption("memory_measure"))
        self._calls = 0
        given = {} if marker is None else dict(marker.kwargs)
        self._peak, self._gpu = given.pop("peak", None), given.pop("gpu", None)
        if given or (marker is not None and marker.args):
            pytest.fail(f"the memory marker takes peak and gpu only: {MARKER}", pytrace=False)

    def __call__(
        self,
        build: Callable[[], Any],
        batch: int = 1,
        *,
        measure: bool | None = None,
        gpu: str | None = None,
        **options: Any,
    ) -> "MemoryUse":
        """Predict or measure a step of ``build()``; other options as in harness.predict."""
        from harness.budgets.step_memory import measured, predicted
        from harness.schema.errors import HarnessError

        use_measure = self._measure if measure is None else measure
        how = measured if use_measure else predicted
        self._calls += 1
        name = self._name if self._calls == 1 else f"{self._name}#{self._calls}"
        try:
            use = how(build, batch, gpu=gpu or self._gpu, **options)
            problem = self._problem(name, use)
        except HarnessError as error:
            problem = f"memory: {error}"
        if problem:
            pytest.fail(problem, pytrace=False)
        return use

    def _problem(self, name: str, use: "MemoryUse") -> str:
        """Return why the test fails, empty where it does not."""
        from harness.budgets.memory_use import growth, largest
        from harness.schema.units import format_bytes, parse_bytes

        baseline = self._baseline.get(name)
        if baseline is not None and (baseline.method, baseline.gpu) != (use.method, use.gpu):
            baseline = None  # another kind of number
        peak = format_bytes(use.peak_bytes)
        changes = [] if baseline is None else growth(use, baseline)
        if self._peak is not None:
            try:
                limit = self._peak if isinstance(self._peak, int) else parse_bytes(self._peak)
            except ValueError as error:
                return f"memory: peak={self._peak!r}: {error}"
            if use.peak_bytes > limit:
                over = format_bytes(use.peak_bytes - limit)
                return "\n".join(
                    [
                        f"memory: {use.method} peak {peak} is {over} above {format_bytes(limit)}",
                        *(changes or largest(use)),
                    ]
                )
        if self._update:
            self._baseline.put(name, use)
        elif baseline is not None and use.peak_bytes > baseline.peak_bytes:
            over = format_bytes(use.peak_bytes - baseline.peak_bytes)
            before = format_bytes(baseline.peak_bytes)
            return "\n".join(
                [
                    f"memory: {use.method} peak {peak} is {over} above the baseline of {before}",
                    *changes,
                    "if this is meant, run pytest --memory-update and commit the baseline",
                ]
            )
        elif baseline is None and self._peak is None:
            return f"memory: {name} has no budget and no baseline; run pytest --memory-update"
        return ""


@pytest.fixture
def memory(request: pytest.FixtureRequest) -> MemoryBudget:
    """Return a function that predicts or measures a step and checks the test's memory budget."""
    from harness.budgets.baseline import Baseline

    path = Path(request.config.rootpath) / str(request.config.getini("memory_baseline"))
    marker = request.node.get_closest_marker("memory")
    return MemoryBudget(request.node.nodeid, Baseline(path), marker, request.config)
