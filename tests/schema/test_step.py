"""A step as a value: checked when it is made, and the same by every way to write it."""

from dataclasses import fields
from typing import Any

import pytest
from msgspec.structs import replace

import harness
from harness.schema.memory_fit import GpuFit
from harness.schema.step import StepOptions
from harness.schema.step_report import StepReport

NAMED = {"target": "net.py:Net", "batch": 8, "inputs": "3x8x8"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": "Net"}, "target 'Net' names no callable; write MODULE:CALLABLE"),
        ({"target": 3}, "target must be a network"),
        ({"target": print, "arguments": {"depth": 2}}, "write lambda: Net"),
        ({"arguments": {"depth": object}}, "arguments must be Python literals by name"),
        ({"batch": 0}, "batch must be a whole number of at least 1, got 0"),
        ({"accumulate": 3}, "accumulate must divide the batch of 8, got 3"),
        ({"classes": 0}, "classes must be a whole number of at least 1, got 0"),
        ({"mode": "eval"}, "did you mean inference"),
        ({"optimizer": "adma"}, r"got 'adma' \(did you mean adam"),
        ({"loss": None}, "loss must be a name or a function"),
        ({"autocast": "float64"}, "autocast must be float16 or bfloat16, got 'float64'"),
        ({"compile": "fast"}, "compile must be one of"),
        ({"inputs": "3x0"}, "--input must be"),
        ({"inputs": (3, -1)}, "inputs must be shapes"),
        ({"inputs": {"mask": "flag:3"}}, "type must be one of"),
    ],
)
def test_a_step_that_breaks_a_rule_is_never_made(change: dict[str, Any], message: str) -> None:
    with pytest.raises(harness.HarnessError, match=message):
        harness.Step(**{**NAMED, **change})


def test_a_function_of_the_inputs_may_be_named() -> None:
    assert harness.Step("a.b:Net", 4, inputs="data.py:make").inputs_from == "data.py:make"
    assert harness.Step("a.b:Net", 4, inputs="int64:8").inputs_from is None
    assert harness.Step("a.b:Net", 4, inputs="x=int64:8").specs[0].name == "x"


def test_the_short_form_takes_every_field_of_a_step() -> None:
    names = {one.name for one in fields(harness.Step)} - {"target", "batch"}
    assert names == set(StepOptions.__annotations__)


WORKLOAD, STEP = harness.Workload(), harness.Step("net.py:Net", 8, inputs="4")


@pytest.mark.parametrize(
    ("verb", "target", "options", "message"),
    [
        ("predict", WORKLOAD, {"batch": 4}, "write workload.replace(batch=4)"),
        (
            "predict",
            WORKLOAD,
            {"method": "estimate"},
            "predict of a workload on the CPU takes no method",
        ),
        ("predict", STEP, {"batch": 4}, "predict of a Step takes no batch"),
        ("predict", STEP, {"budget_bytes": 4}, "predict of a step takes no budget_bytes"),
        ("predict", None, {"run": print, "gpux": 1}, "did you mean gpu?"),
        ("predict", None, {}, "target must be a harness.Step"),
        ("predict", print, {"batch": 4}, "give inputs"),
        ("measure", print, {"batch": 4, "foo": 1}, "measure takes no argument 'foo'"),
        ("measure", STEP, {"repeats": 2}, "measure of a step takes no repeats"),
        ("predict", print, {"batch": 4, "optimiser": "sgd"}, "did you mean optimizer?"),
        ("plan", STEP, {"gpu": "l4", "mode": "train"}, "write step.replace(mode='train')"),
        ("plan", WORKLOAD.replace(foreach="on"), {"gpu": "l4"}, "foreach auto, got 'on'"),
    ],
)
def test_what_a_verb_does_not_take_is_one_line_that_names_it(
    verb: str, target: object, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(harness.ArgumentError if "inputs" not in message else ValueError) as caught:
        getattr(harness, verb)(target, **options)
    assert message in str(caught.value)


def test_an_answer_about_all_gpus_is_as_good_as_the_worst_and_names_each() -> None:
    fits = GpuFit(
        gpu="l4", capability="8.9", total_bytes=24 << 30, outside_bytes=(1, 2), verdict="fits",
        allocator_settings="", allocated_peak_bytes=(8, 8), reserved_peak_bytes=(9, 9),
    )  # fmt: skip
    tight = replace(fits, gpu="tiny", total_bytes=8, verdict="does not fit")
    known = StepReport(method="dry run", target="net.py:Net", batch=8, gpus=(fits,))
    both = replace(known, gpus=(fits, tight))
    assert (known.fits, both.fits, replace(known, gpus=()).fits) == (True, False, None)
    assert [line in both.summary() for line in ("fits on l4", "does not fit on tiny")] == [True] * 2
