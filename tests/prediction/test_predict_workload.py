"""The prediction as its reader sees it: names, notes, verdicts, and what it does not import."""

import platform
from typing import Any

import msgspec
import pytest

from harness.allocator import AllocatorConfigError
from harness.prediction.gpu.catalogue import GpuError
from harness.prediction.mlp.cuda_fit import ExamplesError
from harness.prediction.mlp.largest_fit import needed_bytes
from harness.prediction.predict_workload import predict
from harness.schema.argument_checks import ArgumentError
from harness.schema.memory_fit import BudgetFit
from harness.schema.metrics import Metrics
from harness.schema.record import Outcome
from harness.schema.workload import Workload


def test_every_metric_that_can_be_predicted_is() -> None:
    stated = msgspec.to_builtins(predict(Workload(depth=2)))
    unknown = {name for name in Metrics.__struct_fields__ if stated[name] is None}
    assert unknown == {"rss_rise_bytes", "cuda"}
    assert stated["outcome"] == "predicted"
    assert stated["method"] == "formula"


def test_categories_add_up_to_the_peak() -> None:
    stated = msgspec.to_builtins(predict(Workload(depth=3, optimizer="adamw")))
    assert sum(stated["categories_at_peak"].values()) == stated["peak_live_bytes"]


def test_modules_add_up_to_the_saved_bytes() -> None:
    stated = msgspec.to_builtins(predict(Workload(depth=3, activation="silu")))
    modules = stated["modules"].values()
    assert sum(module["saved_bytes"] for module in modules) == stated["saved_bytes"]


def test_what_cannot_be_predicted_is_unsupported_with_the_reason() -> None:
    workload = Workload(device="cuda", autocast="bfloat16", checkpoint=1)
    predicted = predict(workload, budget_bytes=1 << 30)
    assert predicted.method == "formula"
    assert predicted.peak_live_bytes is None
    assert predicted.phases is None
    assert predicted.saved_bytes is None
    assert predicted.cuda is None
    assert predicted.budget is None
    assert predicted.outcome is Outcome.UNSUPPORTED
    assert predicted.reason is not None
    assert "autocast bfloat16" in predicted.reason
    assert [text.partition(":")[0] for text in predicted.unanswered] == ["budget"]


def test_every_question_without_an_answer_is_named() -> None:
    workload = Workload(device="cuda", autocast="bfloat16", checkpoint=1)
    predicted = predict(
        workload,
        budget_bytes=1 << 30,
        gpu="l4",
        allocator_settings="expandable_segments:True",
        examples=1000,
    )
    request = [text.partition(":")[0] for text in predicted.unanswered]
    assert request == ["budget", "gpu", "allocator settings", "examples"]
    assert predicted.fits is None


def test_wrong_questions_are_refused_even_if_the_workload_is_unsupported() -> None:
    workload = Workload(device="cuda", autocast="bfloat16", checkpoint=1)
    with pytest.raises(GpuError, match="gpu must be one of"):
        predict(workload, gpu="l5")
    with pytest.raises(AllocatorConfigError):
        predict(workload, allocator_settings="expandable")
    with pytest.raises(ExamplesError, match="examples must be at least one batch"):
        predict(workload, examples=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"workload": {"depth": 2}}, "workload must be a harness.Workload, got a dict; write Work"),
        ({"budget_bytes": "24GiB"}, "got '24GiB'; write budget_bytes=25769803776"),
        ({"budget_bytes": "much"}, "got 'much'; write the number of bytes"),
        ({"budget_bytes": 1.5}, "budget_bytes must be a whole number of bytes from 1 on, got 1.5"),
        ({"budget_bytes": 0}, "budget_bytes must be a whole number of bytes from 1 on, got 0"),
    ],
)
def test_an_argument_of_a_wrong_type_is_one_clear_line(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        predict(**({"workload": Workload()} | arguments))


def test_another_machine_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert any("aarch64" in note for note in predict(Workload()).notes)


def test_a_budget_gets_a_verdict_and_the_largest_batch() -> None:
    workload = Workload(depth=2, batch=64)
    needed = needed_bytes(workload)
    exact = predict(workload, budget_bytes=needed).budget
    assert exact == BudgetFit(budget_bytes=needed, needed_bytes=needed, fits=True, largest_batch=64)
    short = predict(workload, budget_bytes=needed - 1).budget
    assert short is not None
    assert (short.fits, short.largest_batch) == (False, 63)
