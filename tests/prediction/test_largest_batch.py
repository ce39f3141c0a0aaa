"""The largest batch of a network: derived from the steps at two batches, checked at a third."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.prediction.gpu.catalogue import GPUS, Gpu
from harness.prediction.module.affine_steps import AffineSteps
from harness.prediction.module.gpu_table import gpu_table
from harness.prediction.module.largest_batch import TracedSteps, largest_batch
from harness.prediction.module.predict_module import predict_module

SMALL = replace(GPUS["l4"], name="small", total_bytes=900 << 20)
MEDIUM = replace(GPUS["h200"], name="medium", total_bytes=1100 << 20)
ASKED: dict[str, Any] = {"input_shape": (3, 16, 16), "optimizer": "adam"}


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.Dropout(0.1),
        nn.Flatten(),
        nn.Linear(32 * 8 * 8, 10),
    )


class Branching(nn.Module):
    """Keeps three more activations of a batch whose size is odd, or even."""

    def __init__(self, rest: int = 1) -> None:
        super().__init__()
        self.layer = nn.Linear(400, 400)
        self.rest = rest

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(1 + 3 * (x.shape[0] % 2 == self.rest)):
            x = torch.sigmoid(self.layer(x))
        return x


def fits(build: Callable[[], nn.Module], batch: int, gpu: Gpu, **asked: Any) -> bool:
    found = predict_module(build, batch, gpu=gpu, **asked)
    assert found.card is not None
    return found.card.verdict == "fits"


def test_three_predictions_find_the_largest_batch() -> None:
    seen: dict[int, str] = {}
    found = largest_batch(network, gpu=SMALL, progress=seen.__setitem__, **ASKED)
    assert found.is_derived
    assert found.batch is not None
    assert found.predictions == 3
    assert seen[found.batch + 1] != "fits"
    assert fits(network, found.batch, SMALL, **ASKED)
    assert not fits(network, found.batch + 1, SMALL, **ASKED)
    assert found.notes == []


def test_the_prediction_of_the_asked_batch_is_one_of_the_three() -> None:
    asked = predict_module(network, 20, gpu=SMALL, **ASKED)
    found = largest_batch(network, gpu=SMALL, known={20: asked.trace}, **ASKED)
    assert found == largest_batch(network, gpu=SMALL, **ASKED)


def test_the_derived_steps_are_the_predicted_ones() -> None:
    steps = TracedSteps(network, SMALL, dict(ASKED))
    derived = AffineSteps.through((8, steps.at(8)), (24, steps.at(24)))
    assert derived is not None
    for batch in (5, 16, 100):
        assert derived.at(batch).events == steps.at(batch).events


def test_steps_with_other_events_are_not_joined() -> None:
    steps = TracedSteps(Branching, SMALL, {"input_shape": (400,), "loss": "sum"})
    assert AffineSteps.through((2, steps.at(2)), (3, steps.at(3))) is None


@pytest.mark.parametrize("rest", [0, 1])
def test_where_kernels_depend_on_the_batch_predictions_decide(rest: int) -> None:
    build = partial(Branching, rest)
    asked: dict[str, Any] = {"input_shape": (400,), "loss": "sum"}
    found = largest_batch(build, gpu=SMALL, **asked)
    assert found.batch is not None
    assert fits(build, found.batch, SMALL, **asked)
    assert not fits(build, found.batch + 1, SMALL, **asked)
    assert not found.is_derived
    assert f"{found.predictions}" in found.notes[0]


def test_a_batch_grows_by_one_example_in_each_micro_batch() -> None:
    found = largest_batch(network, gpu=SMALL, accumulate=3, **ASKED)
    assert found.batch is not None
    assert found.batch % 3 == 0
    assert fits(network, found.batch, SMALL, accumulate=3, **ASKED)
    assert not fits(network, found.batch + 3, SMALL, accumulate=3, **ASKED)


@pytest.mark.slow
@pytest.mark.parametrize("build", [network, Branching])
def test_the_table_has_the_batch_of_each_gpu(build: Callable[[], nn.Module]) -> None:
    asked = ASKED if build is network else {"input_shape": (400,), "loss": "sum"}
    rows = gpu_table(build, 8, gpus=(MEDIUM, SMALL), **asked)
    assert [row.fit.gpu for row in rows] == ["small", "medium"]
    for row, gpu in zip(rows, (SMALL, MEDIUM), strict=True):
        assert fits(build, row.largest_batch, gpu, **asked)
        assert not fits(build, row.largest_batch + 1, gpu, **asked)


def test_a_network_that_refuses_a_single_example_is_searched_from_two() -> None:
    def normalized() -> nn.Module:
        return nn.Sequential(nn.Linear(8, 2_000), nn.BatchNorm1d(2_000), nn.Linear(2_000, 2))

    found = largest_batch(normalized, gpu="l4", input_shape=(8,))
    assert found.batch is not None
    assert found.batch > 2
