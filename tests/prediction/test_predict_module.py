"""What is predicted on fake tensors, against what is measured, to the byte."""

import time

import pytest
import torch
from torch import Tensor, nn

import harness
from harness.prediction.module.cpu_ledger import INITIALISER
from harness.prediction.module.module_prediction import UnsupportedModuleError
from harness.prediction.module.predict_module import BELOW, predict_module
from harness.training.models import MLP
from tests.profiling.module_cases import CASES, NETWORKS, prepared
from tests.profiling.test_module_trace import Nothing, scratch_of_kernels, traced, without


def cross_entropy(output: Tensor, y: Tensor) -> Tensor:
    return nn.functional.cross_entropy(output.flatten(0, -2), y.flatten())


@pytest.mark.exact
@pytest.mark.parametrize("name", ["convolutions", "embedding", "shared weights", *NETWORKS])
def test_the_prediction_is_the_trace_but_for_named_events(name: str) -> None:
    """Left out: kernels' scratch, and sums of gradients in place (a mode's presence)."""
    build = {**CASES, **NETWORKS}[name]
    case = prepared(build)
    measured = traced(case, Nothing()).trace  # type: ignore[no-untyped-call]
    seen = without(measured, scratch_of_kernels(measured))

    def example(batch: int) -> tuple[Tensor, Tensor]:
        x = torch.empty(batch, *case.x.shape[1:], dtype=case.x.dtype)
        return x, torch.empty(batch, *case.y.shape[1:], dtype=torch.int64)

    predicted = predict_module(
        lambda: build().model, len(case.x), inputs=example, loss=cross_entropy, steps=2
    )
    assert predicted.peak_live_bytes == seen.peak_live_bytes
    assert predicted.live_bytes[-1] == seen.live_bytes[-1]
    assert BELOW in predicted.notes


@pytest.mark.exact
def test_another_batch_size_is_predicted_from_the_same_code() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 8))

    weights = 4 * (16 * 32 + 32 + 32 * 8 + 8)
    for batch in (3, 70, 1_000_000_000):
        predicted = predict_module(build, batch, input_shape=(16,))
        # Backward of the last layer: x, y, tanh's result; log-probabilities' gradient and
        # the hidden gradient; the loss, its weight and seed; new weight gradients.
        assert predicted.categories_at_peak()["parameter"] == weights
        assert predicted.categories_at_peak()["input"] == batch * (4 * 16 + 8)
        assert sum(predicted.categories_at_peak().values()) == predicted.peak_live_bytes
    assert predicted.peak_live_bytes > batch * 4 * (16 + 32 + 8)


def test_time_is_linear_in_the_number_of_operators() -> None:
    def seconds(depth: int) -> float:
        start = time.process_time()
        predict_module(
            lambda: nn.Sequential(*[nn.Linear(4, 4)] * depth), 2, input_shape=(4,), steps=1
        )
        return time.process_time() - start

    seconds(10)
    assert seconds(400) < 8 * seconds(100)


def test_inference_keeps_nothing() -> None:
    predicted = predict_module(
        lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU()), 5, input_shape=(4,), mode="inference"
    )
    assert predicted.categories_at_peak() == {
        "parameter": 160, "gradient": 0, "optimizer_state": 0, "input": 80,
        "activation": 0, "temporary": 2 * 160,
    }  # fmt: skip


def test_what_depends_on_data_is_refused_by_name() -> None:
    class Picky(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2 if bool(x.sum() > 0) else x

    with pytest.raises(UnsupportedModuleError, match="_local_scalar_dense"):
        predict_module(Picky, 2, input_shape=(3,), mode="inference")


def test_an_initialiser_that_looks_at_its_numbers_is_noted() -> None:
    class Drawn(nn.Linear):
        def reset_parameters(self) -> None:
            nn.init.constant_(self.weight, float(self.weight.detach().sum()))

    predicted = predict_module(lambda: Drawn(3, 4, bias=False), 2, input_shape=(3,))
    assert INITIALISER in predicted.notes


def test_layers_on_the_cpu_save_what_the_closed_form_says() -> None:
    """Each module's saved bytes, by fake tensors and by the formula of an MLP."""
    step = harness.Workload(hidden=(32, 16), in_features=8, batch=64, classes=10)
    derived = harness.predict(step, torch="2.13")
    found = harness.predict(lambda: MLP(8, (32, 16), 10, "relu"), 64, inputs=(8,))
    assert found.saved_bytes == derived.saved_bytes
    assert sum(layer.saved_bytes for layer in found.layers) == found.saved_bytes
    parameters = sum(layer.parameter_bytes for layer in found.layers)
    assert parameters == 4 * (8 * 32 + 32 + 32 * 16 + 16 + 170)
    names = [layer.name for layer in found.layers]
    assert names[0] == ""
    assert len(names) == len(set(names)) > 4
    at_peak = sum(layer.peak_bytes for layer in found.layers)
    assert at_peak == found.peak_live_bytes
