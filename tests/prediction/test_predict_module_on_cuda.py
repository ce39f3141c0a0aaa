"""Predictions for CUDA on fake tensors of the CPU, against two other ways to the same peaks.

A derivation that runs no torch at all (``harness.prediction``), and peaks recorded under the dry
run (``benchmarks/validation/compare_module_predictions.py``).
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import harness
from benchmarks.validation.compare_predictions import CARDS, gpu_of
from benchmarks.validation.modules import MODULES
from harness.prediction.gpu.catalogue import GPUS, GpuError
from harness.prediction.module.gpu_scratch import CUDNN
from harness.prediction.module.largest_batch import largest_batch
from harness.prediction.module.predict_module import predict_module
from harness.prediction.predict_workload import predict
from harness.schema.workload import Workload
from harness.training.models import MLP

BASE = Workload(device="cuda", hidden=(300, 70), in_features=50, batch=5000, optimizer="adam")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"activation": "gelu", "optimizer": "momentum"},
        {"norm": "batch", "dropout": 0.5},
        {"norm": "layer", "optimizer": "adamw", "batch": 70_000},
        {"mode": "inference", "norm": "batch"},
    ],
)
def test_a_perceptron_is_predicted_as_it_is_derived(changes: dict[str, Any]) -> None:
    """Two ways to the same peaks: PyTorch's own dispatcher, and rules written down."""
    w = BASE.replace(**changes)

    def build() -> nn.Module:
        norm, dropout = w.norm, w.dropout
        return MLP(w.in_features, w.widths, w.classes, w.activation, norm=norm, dropout=dropout)

    predicted = predict_module(
        build,
        w.batch,
        input_shape=(w.in_features,),
        optimizer=w.optimizer,
        mode=w.mode,
        device="cuda",
        gpu="h100-80gb",
    )
    derived = predict(w, gpu="h100-80gb")
    assert predicted.cuda is not None
    assert derived.cuda is not None
    assert predicted.cuda.requested_peak_bytes == derived.cuda.requested_peak_bytes
    assert predicted.cuda.workspace_bytes == derived.cuda.workspace_bytes
    # The batch normalization's sums are written after its gradients, not before.
    apart = abs((predicted.cuda.reserved_peak_bytes or 0) - (derived.cuda.reserved_peak_bytes or 0))
    assert apart <= (2 << 20 if w.norm == "batch" else 0)
    assert predicted.trace.peak_live_bytes == derived.peak_live_bytes


@pytest.mark.parametrize(
    ("name", "requested", "reserved"),
    [
        ("resnet18", 162_557_792, 188_743_680),
        ("transformer encoder", 84_026_448, 104_857_600),
    ],
)
@pytest.mark.usefixtures("rules_of_2_13")
def test_a_public_module_is_predicted_as_it_was_measured(
    name: str, requested: int, reserved: int
) -> None:
    """Capability 8.0, torch 2.13 under the dry run, which has no cuDNN."""
    if name == "resnet18":
        pytest.importorskip("torchvision")
    case = MODULES[name]
    predicted = predict_module(
        case.build,
        case.batch,
        input_shape=case.input_shape,
        optimizer=case.optimizer,
        loss=case.loss,
        device="cuda",
        gpu=gpu_of(CARDS[0]),
        cudnn=False,
    )
    assert predicted.cuda is not None
    assert predicted.cuda.requested_peak_bytes == requested
    assert predicted.cuda.reserved_peak_bytes == reserved


def convolution() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 6 * 6, 10))


def test_a_gpu_gives_a_verdict_and_cudnn_a_note() -> None:
    predicted = predict_module(convolution, 64, input_shape=(3, 8, 8), device="cuda", gpu="t4")
    assert predicted.card is not None
    assert predicted.card.verdict == "fits"
    assert CUDNN in predicted.notes
    small = gpu_of(CARDS[0])
    tiny = predict_module(
        convolution, 10**8, input_shape=(3, 8, 8), device="cuda", gpu=small, steps=3
    )
    assert tiny.card is not None
    assert tiny.card.verdict == "does not fit"


def test_without_a_gpu_there_is_no_verdict() -> None:
    predicted = predict_module(convolution, 4, input_shape=(3, 8, 8), device="cuda")
    assert predicted.card is None
    assert predicted.cuda is not None


def test_an_unknown_gpu_is_refused() -> None:
    with pytest.raises(GpuError, match="did you mean"):
        predict_module(convolution, 4, input_shape=(3, 8, 8), device="cuda", gpu="rtx409")


def test_nothing_stays_in_place_of_the_cpus_functions() -> None:
    before = functional.dropout, functional.scaled_dot_product_attention
    predict_module(
        lambda: nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)),
        4,
        input_shape=(4,),
        device="cuda",
        optimizer="adam",
    )
    assert (functional.dropout, functional.scaled_dot_product_attention) == before
    parameter = nn.Parameter(torch.zeros(3))
    parameter.grad = torch.ones(3)
    with torch.profiler.profile(acc_events=True) as profiler:
        torch.optim.Adam([parameter]).step()
    assert not any("_foreach" in event.key for event in profiler.key_averages())


def test_a_gpu_without_a_size_gets_no_verdict() -> None:
    gpu = replace(GPUS["l4"], total_bytes=None)
    predicted = predict_module(convolution, 4, input_shape=(3, 8, 8), device="cuda", gpu=gpu)
    assert predicted.card is None


def test_the_largest_batch_is_that_of_the_derivation() -> None:
    """A perceptron on a small GPU, by predictions of its module and by its description."""
    small = replace(GPUS["l4"], total_bytes=900 << 20)
    found = largest_batch(
        lambda: MLP(50, (300, 70), 10, "relu"), gpu=small, input_shape=(50,), optimizer="adam"
    )
    predicted = predict(BASE, gpu=small).card
    assert predicted is not None
    assert found.batch == predicted.largest_batch


def test_no_batch_fits_beside_what_lies_outside() -> None:
    tiny = replace(GPUS["l4"], total_bytes=100 << 20)
    assert largest_batch(convolution, gpu=tiny, input_shape=(3, 8, 8)).batch is None
    with pytest.raises(GpuError, match="known total_bytes"):
        largest_batch(convolution, gpu=replace(GPUS["l4"], total_bytes=None), input_shape=(3, 8, 8))


def test_the_one_verb_searches_the_largest_batch_too() -> None:
    small = replace(GPUS["l4"], total_bytes=900 << 20)

    def build() -> nn.Module:
        return MLP(50, (300, 70), 10, "relu")

    found = harness.predict(build, 32, inputs=(50,), optimizer="adam", gpu=small, find_largest=True)
    expected = largest_batch(build, gpu=small, input_shape=(50,), optimizer="adam")
    assert found.card is not None
    assert found.card.largest_batch == expected.batch
    with pytest.raises(harness.ArgumentError, match="find_largest needs a GPU"):
        harness.predict(build, 32, inputs=(50,), find_largest=True)
