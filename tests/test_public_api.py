"""The public names: complete, lazy, typed, documented, and their examples true."""

import doctest
import importlib
import inspect
import subprocess
import sys
import tempfile
import typing
from pathlib import Path

import pytest

import harness

FUNCTIONS = ("compare", "load", "measure", "plan", "predict", "sweep", "threshold", "trace")
TYPES = ("Gpu", "Grid", "Outcome", "Prediction", "Record", "Threshold", "Trace", "Workload")
EXAMPLES = sorted(
    {harness._PLACES[name] for name in FUNCTIONS}
    | {"harness", "harness.prediction.gpu.catalogue", "harness.schema.events"}
    | {f"harness.schema.{name}" for name in ("prediction", "record", "threshold")}
    | {"harness.schema.units", "harness.schema.workload"}
)


def test_importing_the_package_and_naming_a_type_imports_nothing_heavy() -> None:
    code = (
        "import sys, harness\n"
        "harness.Prediction, harness.Record, harness.Gpu, harness.Threshold, harness.predict\n"
        "print(sorted({'torch', 'numpy', 'pandas', 'matplotlib'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_dir_names_everything_before_it_is_loaded() -> None:
    code = "import harness; print(*dir(harness))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {*FUNCTIONS, *TYPES} <= set(done.stdout.split())


def test_every_public_name_is_there_and_an_error_is_a_harness_error() -> None:
    for name in harness.__all__:
        value = getattr(harness, name)
        if name.endswith("Error"):
            assert issubclass(value, harness.HarnessError)
    with pytest.raises(AttributeError, match="no attribute 'measur'"):
        harness.measur  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_function_is_typed_and_documents_its_arguments(name: str) -> None:
    function = getattr(harness, name)
    signature = inspect.signature(inspect.unwrap(function))
    text = inspect.getdoc(function) or ""
    for parameter in signature.parameters.values():
        assert "Any" not in str(parameter.annotation), parameter
        assert f"    {parameter.name}: " in text, parameter
    assert "Any" not in str(signature.return_annotation)
    assert ">>> " in text
    assert "Args:" in text
    assert "Returns:" in text or "Yields:" in text


@pytest.mark.parametrize("module", EXAMPLES)
@pytest.mark.timeout(300)
def test_the_examples_of_the_documentation_are_true(
    module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)  # some examples write a picture
    found = doctest.testmod(importlib.import_module(module))
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.parametrize("name", ["Prediction", "Record", "Threshold"])
def test_the_fields_of_a_public_type_are_typed(name: str) -> None:
    hints = typing.get_type_hints(getattr(harness, name))
    loose = {field for field, hint in hints.items() if "Any" in str(hint)}
    assert loose <= {"evidence", "environment"}, "open-ended by nature"


def test_objects_have_one_line_and_a_table_for_notebooks() -> None:
    step = harness.Workload(depth=8, batch=512)
    prediction = harness.predict(step, budget_bytes=1 << 30, torch="2.13")
    assert repr(prediction) == (
        "<Prediction: mlp 8 x 256, batch 512, train, relu, sgd: predicted, "
        "saved for backward 5.555 MiB, peak 9.078 MiB in backward>"
    )
    assert prediction.summary().startswith("fits: needs 9.078 MiB of 1 GiB; largest batch ")
    page = prediction._repr_html_()
    assert page.startswith("<table><caption>mlp 8 x 256")
    assert "<td style='text-align:right'>5,824,516</td><td>5.555 MiB</td>" in page
    record = harness.Record(workload_id=step.id, workload=step, outcome=harness.Outcome.OOM)
    assert repr(record) == f"<Record: {step}: oom>"


def test_a_grid_of_something_else_is_refused() -> None:
    with pytest.raises(harness.ArgumentError, match=r"grid must be a harness.Grid or a list"):
        harness.sweep(harness.Workload(), out="nowhere")  # type: ignore[arg-type]
    with pytest.raises(
        harness.ArgumentError, match=r"workload must be a harness.Workload, got a s"
    ):
        harness.sweep(["mlp"], out="nowhere")  # type: ignore[list-item]
