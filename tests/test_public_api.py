"""The public names: complete, lazy, typed, documented, and their examples true."""

import dataclasses
import doctest
import importlib
import inspect
import os
import re
import tempfile
import typing
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import harness
from harness.schema.metrics import Metrics
from harness.schema.record import Outcome, Record
from tests.child_process import child

FUNCTIONS = tuple(
    name for name in harness.__all__ if inspect.isfunction(getattr(harness, name, None))
)
TYPES = tuple(
    name
    for name in harness.__all__
    if inspect.isclass(getattr(harness, name)) and not name.endswith("Error")
)
ROOT = Path(__file__).parents[1]
ERRORS = tuple(name for name in harness.__all__ if name.endswith("Error"))
NEEDS_CUDA_BUILD = "harness.dry_runs.run"
"""Its example runs in tests/dry_runs."""
EXAMPLES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "harness").rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)
"""Every module that shows an example, public or not."""


HEAVY = ("torch", "numpy", "pandas", "matplotlib", "scipy", "statsmodels", "torchvision", "jinja2")
RECORDING = ROOT / "tests" / "snapshots" / "failures" / "leak.pickle.gz"


@pytest.mark.usefixtures("cuda_build")
def test_predictions_and_explanations_load_no_torch_and_nothing_that_the_study_needs() -> None:
    """Naming a type, predictions for CPU and CUDA, a recording explained on a page."""
    code = (
        "import contextlib, io, sys, harness, harness.sweeps.sweep, harness.cli.app\n"
        "import harness.measurement.measure\n"
        "import harness.planning.step_search, harness.planning.plan_search\n"
        "import harness.snapshots\n"
        "harness.StepReport, harness.Gpu, harness.Grid, harness.predict, harness.plan\n"
        "harness.predict(harness.Workload(depth=2, dtype='float64'), budget_bytes=1 << 30)\n"
        "harness.predict(harness.Workload(depth=2, dtype='bfloat16'))\n"
        "harness.predict(harness.Workload(device='cuda', norm='batch', dropout=0.1), gpu='h200')\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        f"    harness.cli.app.main(['explain', {str(RECORDING)!r}, '--html', {os.devnull!r}])\n"
        "    harness.cli.app.main(['predict', '--depth', '2', '--gpu', 'l4'])\n"
        f"print(sorted({{*{HEAVY}}} & set(sys.modules)))\n"
        "print(*dir(harness))\n"
    )
    heavy, named = child(code).stdout.splitlines()
    assert heavy == "[]"
    assert {*harness.__all__} <= set(named.split()), "dir() names what is not loaded yet"


def test_a_script_of_the_tests_names_every_public_name() -> None:
    """It is checked with mypy and run where only the wheel is installed."""
    text = (Path(__file__).parent / "packaging" / "every_public_name.py").read_text()
    assert [name for name in harness.__all__ if not re.search(rf"\b{name}\b", text)] == []


def test_an_error_is_a_harness_error_and_a_wrong_name_is_no_attribute() -> None:
    for name in ERRORS:
        assert issubclass(getattr(harness, name), harness.HarnessError)
        assert ">>> " in getattr(harness, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'measur'"):
        harness.measur  # type: ignore[attr-defined]  # noqa: B018


def check_documentation(name: str, function: Callable[..., object]) -> None:
    """Every argument is documented, nothing is ``Any``, and every error can be named."""
    signature = inspect.signature(inspect.unwrap(function))
    text = inspect.getdoc(function) or ""
    assert text, name
    if re.search("^    step: ", text, re.M):
        text += inspect.getdoc(harness.Step) or ""
    for parameter in signature.parameters.values():
        if parameter.name == "self":
            continue
        assert parameter.name not in ("attempt", "cudnn", "inject", "launcher"), name
        assert "Any" not in str(parameter.annotation), f"{name}: {parameter}"
        assert re.search(rf"^    \*?\*?{parameter.name}: ", text, re.M), f"{name}: {parameter}"
    assert "Any" not in str(signature.return_annotation)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_function_is_typed_and_documents_its_arguments_and_errors(name: str) -> None:
    function = getattr(harness, name)
    text = inspect.getdoc(function) or ""
    check_documentation(name, function)
    assert ">>> " in text
    assert "Args:" in text
    assert "Returns:" in text or "Yields:" in text
    assert "Raises:" in text or name == "trace"


@pytest.mark.parametrize("name", ["predict", "plan", "measure"])
def test_a_notebook_completes_the_fields_of_a_step(name: str) -> None:
    shown = inspect.signature(getattr(harness, name)).parameters
    assert shown["optimizer"].default == "sgd"
    assert {one.name for one in dataclasses.fields(harness.Step)} <= {*shown}
    assert not [one for one in shown.values() if one.kind is one.VAR_KEYWORD]


@pytest.mark.parametrize("name", TYPES)
def test_a_public_type_documents_its_fields_and_methods(name: str) -> None:
    kind = getattr(harness, name)
    text = inspect.getdoc(kind) or ""
    assert ">>> " in text or "shows an example" in text
    fields = (
        [item.name for item in dataclasses.fields(kind)]
        if dataclasses.is_dataclass(kind)
        else getattr(kind, "__struct_fields__", ())
    )
    shared = {*Metrics.__struct_fields__, "schema", "workload", "workload_id", "wall_seconds"}
    for field in {*fields} - shared:
        assert re.search(rf"^    {field}: .+", text, re.M), f"{name}.{field}"
    for method, function in vars(kind).items():
        if inspect.isfunction(function) and not method.startswith("_"):
            check_documentation(f"{name}.{method}", function)


@pytest.mark.parametrize("module", [name for name in EXAMPLES if name != NEEDS_CUDA_BUILD])
def test_the_examples_of_the_documentation_are_true(
    module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)  # some examples write a picture
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted > 0
    assert result.failed == 0


def hints_of(kind: type) -> dict[str, typing.Any]:
    """Return the types of the attributes; those of PyTorch are named without an import."""
    return typing.get_type_hints(kind, localns={"torch": torch, "nn": nn, "Tensor": torch.Tensor})


def loose_attributes(kind: type) -> list[str]:
    """Return the public attributes of ``kind`` that are ``Any`` or unparametrised somewhere."""
    hints = {name: hint for name, hint in hints_of(kind).items() if not name.startswith("_")}
    for base in kind.__mro__[:-1]:
        for name, value in vars(base).items():
            reader = value.fget if isinstance(value, property) else getattr(value, "func", None)
            if not name.startswith("_") and inspect.isfunction(reader):
                hints[name] = typing.get_type_hints(reader).get("return", typing.Any)
    return [f"{kind.__name__}.{name}" for name, hint in hints.items() if is_loose(hint)]


def is_loose(hint: object) -> bool:
    return hint in (typing.Any, dict, list, tuple) or any(map(is_loose, typing.get_args(hint)))


def types_in(hint: object) -> set[type]:
    inside = {kind for part in typing.get_args(hint) for kind in types_in(part)}
    own = isinstance(hint, type) and hint.__module__.startswith("harness.")
    return inside | ({typing.cast("type", hint)} if own else set())


def test_no_attribute_of_a_public_type_or_of_what_it_holds_is_any() -> None:
    result: set[type] = set()
    rest = {value for name in harness.__all__ if inspect.isclass(value := getattr(harness, name))}
    while rest:
        result |= rest
        hints = [hint for kind in rest for hint in hints_of(kind).values()]
        rest = {kind for hint in hints for kind in types_in(hint)} - result
    assert {"GpuFit", "Layer", "Trace", "HarnessError"} <= {kind.__name__ for kind in result}
    assert [name for kind in result for name in loose_attributes(kind)] == []


def test_every_result_is_one_line_in_a_prompt_and_a_table_in_a_notebook() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(64, 4096), nn.ReLU(), nn.Linear(4096, 10))

    step = harness.Workload(depth=8, batch=512)
    of_mlp = harness.predict(step, budget_bytes=1 << 30, torch="2.13")
    assert repr(of_mlp) == (
        "<StepReport: mlp 8 x 256, batch 512, train, relu, sgd: predicted, "
        "saved for backward 5.555 MiB, peak 9.078 MiB in backward; formula>"
    )
    assert of_mlp.summary().startswith("fits: needs 9.078 MiB of 1 GiB; largest batch ")
    assert re.search("5.555 MiB<.*>saved for backward</td>", of_mlp._repr_html_())
    record = Record(workload_id=step.id, workload=step, outcome=Outcome.OOM)
    assert repr(record) == f"<Record: {step}: oom>"
    network = harness.predict(build, 512, inputs=(64,), gpu="l4")
    planned = harness.plan(build, 1 << 20, gpu="l4", inputs=(64,))
    assert network.trace is not None
    for result in (network, network.trace, planned):
        assert "\n" not in repr(result)
        assert len(repr(result)) < 300
        assert "<table>" in result._repr_html_()
        assert not result.to_frame().empty
    assert network.summary().startswith("fits on l4: reserves ")
    assert network._repr_html_().startswith("<p><strong>fits on l4: reserves ")
    assert "peak " in network.summary()
    assert len(network.plot().axes) > 0
    assert planned.summary().startswith("batch 1,048,576 on l4: 2 micro-batches of 524,288")
    axes = planned.plot().axes[0]
    peaks, free = (np.asarray(line.get_xdata()).tolist() for line in axes.get_lines())
    high = planned.to_frame()["reserved_peak_high_bytes"].tolist()
    assert peaks == [planned.as_asked.reserved_peak_bytes[1], *high]
    assert max(high) <= free[0] < peaks[0]
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names[0] == "as asked"
    assert names[1].startswith(planned.candidates[0].described())


@pytest.mark.parametrize(
    ("grid", "why"),
    [
        (harness.Workload(), r"grid must be a harness.Grid or a list"),
        (["mlp"], r"workload must be a harness.Workload, got a s"),
    ],
)
def test_a_grid_of_something_else_is_refused(grid: typing.Any, why: str) -> None:
    with pytest.raises(harness.ArgumentError, match=why):
        harness.sweep(grid, out="nowhere")


def test_the_dry_run_stays_a_function_whatever_is_imported() -> None:
    import harness.dry_runs
    import harness.measurement.measure

    assert inspect.isfunction(harness.dry_run)
