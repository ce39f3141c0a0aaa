"""The prediction as its reader sees it: names, notes, verdicts, and what it does not import."""

import platform
from typing import Any

import msgspec
import pytest

from harness.prediction.mlp.cpu_trace import needed_bytes
from harness.prediction.mlp.predict_workload import predict
from harness.schema.errors import HarnessError
from harness.schema.memory_fit import BudgetFit
from harness.schema.metrics import Metrics
from harness.schema.record import Outcome
from harness.schema.workload import Workload
from tests.known import known

UNKNOWN = Workload(autocast="bfloat16", checkpoint=1)


ADAM = Workload(depth=2, batch=512, optimizer="adam")


@pytest.mark.parametrize(
    "workload",
    [
        Workload(depth=3, optimizer="adamw", activation="silu"),
        ADAM,
        ADAM.replace(norm="batch", dropout=0.5),
        ADAM.replace(accumulate=3),
    ],
)
def test_every_metric_that_can_be_predicted_is_and_parts_add_up(workload: Workload) -> None:
    stated = msgspec.to_builtins(predict(workload))
    unknown = {name for name in Metrics.__struct_fields__ if stated[name] is None}
    assert unknown == {"rss_rise_bytes", "rss_peak_bytes", "process", "cuda"}
    assert (stated["outcome"], stated["method"]) == ("predicted", "formula")
    assert sum(stated["categories_at_peak"].values()) == stated["peak_live_bytes"]
    modules = stated["modules"].values()
    assert sum(module["saved_bytes"] for module in modules) == stated["saved_bytes"]


def test_what_cannot_be_predicted_is_unsupported_and_names_every_question() -> None:
    predicted = predict(UNKNOWN, budget_bytes=1 << 30)
    for name in ("peak_live_bytes", "phases", "saved_bytes", "cuda", "budget", "fits"):
        assert getattr(predicted, name) is None, name
    assert predicted.outcome is Outcome.UNSUPPORTED
    assert "autocast bfloat16" in str(predicted.reason)
    assert [text.partition(":")[0] for text in predicted.unanswered] == ["budget"]


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
def test_a_wrong_question_is_refused_even_if_the_workload_is_unsupported(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(HarnessError, match=message):
        predict(**({"workload": Workload()} | arguments))


def test_another_machine_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert any("aarch64" in note for note in predict(Workload()).notes)


def test_a_budget_gets_a_verdict_and_the_largest_batch() -> None:
    workload = Workload(depth=2, batch=64)
    needed = needed_bytes(workload)
    exact = predict(workload, budget_bytes=needed).budget
    assert exact == BudgetFit(budget_bytes=needed, needed_bytes=needed, fits=True, largest_batch=64)
    short = known(predict(workload, budget_bytes=needed - 1).budget)
    assert (short.fits, short.largest_batch) == (False, 63)


def test_the_end_of_the_search_is_named() -> None:
    def noted(width: int) -> bool:
        step = Workload(width=width, in_features=width, classes=width)
        notes = predict(step, budget_bytes=1 << 40).notes
        return any(note.startswith("largest batch") for note in notes)

    assert noted(1)
    assert not noted(4096)
