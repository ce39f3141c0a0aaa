"""The recipe that compares a training with its prediction: its code as the page shows it."""

import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import harness
from harness.dry_runs.run import dry_run
from tests.docs.test_examples import FILES

RECIPE = FILES["memory_check.py"]


def build() -> nn.Module:
    return nn.Sequential(*[nn.Linear(256, 256) for _ in range(4)])


def step() -> harness.Step:
    return harness.Step(build, 512, inputs=(256,), optimizer="adamw")


def check_memory(predicted_bytes: int) -> Any:
    """Return the recipe's function, in front of a known prediction."""
    names: dict[str, Any] = {}
    exec(RECIPE, names)
    answer = SimpleNamespace(cuda=SimpleNamespace(allocated_peak_bytes=predicted_bytes))
    names["harness"] = SimpleNamespace(predict=lambda _, gpu: answer)
    return names["check_memory"](step(), "l4")


def trained(predicted_bytes: int) -> float:
    """Train on CUDA with the recipe; return how far the peak is from its prediction."""
    with torch.device("cuda"):
        model, x, y = build(), torch.randn(512, 256), torch.zeros(512, dtype=torch.int64)
    optimizer = torch.optim.AdamW(model.parameters())
    compare = check_memory(predicted_bytes)
    for _ in range(2):
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    apart: float = compare()
    return apart


@pytest.mark.slow
@pytest.mark.usefixtures("cuda_build")
def test_a_training_on_a_gpu_takes_what_was_predicted() -> None:
    cuda = harness.predict(step(), gpu="l4").cuda
    assert cuda is not None
    predicted: Any = cuda.allocated_peak_bytes
    returned: Any = dry_run(trained, predicted, gpu="l4", quiet=True, answers={"*": 0}).returned
    assert abs(returned) < 0.005


@pytest.mark.parametrize(("measured", "warns"), [(109, False), (112, True), (88, True)])
def test_a_peak_that_differs_by_more_than_the_tolerance_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, measured: int, warns: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: measured)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert check_memory(100)() == pytest.approx(measured / 100 - 1)
    assert [str(one.message).partition(" bytes")[0] for one in caught] == (
        [f"peak of {measured}"] * warns
    )
