import pytest
import torch
from torch import nn

from harness.schema.workload import ACTIVATIONS
from harness.training.models import MLP, SIGMA, MLPScratch


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_scratch_network_computes_what_the_nn_one_does(activation: str) -> None:
    torch.manual_seed(0)
    layers = MLP(6, [5, 4], 3, activation)
    scratch = MLPScratch(6, [5, 4], 3, activation)
    linears = [module for module in layers if isinstance(module, torch.nn.Linear)]
    with torch.no_grad():
        for index, linear in enumerate(linears):
            scratch.weights[index].copy_(linear.weight.t())
            scratch.biases[index].copy_(linear.bias)
    x = torch.randn(7, 6)
    torch.testing.assert_close(scratch(x.clone()), layers(x.clone()))


def test_the_notes_network_has_its_published_parameters_spread_as_published() -> None:
    """784 x 256 + 256 + 256 x 10 + 10, as d2l counts them."""
    torch.manual_seed(0)
    scratch = MLPScratch(784, [256], 10, "relu")
    for model in (MLP(784, [256], 10, "relu"), scratch):
        assert sum(p.numel() for p in model.parameters()) == 203_530
    assert scratch.weights[0].detach().std().item() == pytest.approx(SIGMA, rel=0.02)
    assert all(not bias.any() for bias in scratch.biases)


def test_a_hidden_layer_is_map_norm_activation_dropout() -> None:
    """A layer that is switched off is not there: module names are in every record."""
    plain = MLP(6, [5, 4], 3, "tanh", norm="none", dropout=0.0)
    assert [type(module) for module in plain] == [
        nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear,
    ]  # fmt: skip
    full = MLP(6, [5], 3, "tanh", norm="batch", dropout=0.25)
    assert [type(module) for module in full] == [
        nn.Linear, nn.BatchNorm1d, nn.Tanh, nn.Dropout, nn.Linear,
    ]  # fmt: skip
    assert isinstance(MLP(6, [5], 3, "tanh", norm="layer")[1], nn.LayerNorm)
    assert full[3].p == 0.25
