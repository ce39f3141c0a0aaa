import pytest
import torch

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


def test_dropout_has_the_share_that_was_asked_for() -> None:
    assert MLP(6, [5], 3, "tanh", norm="batch", dropout=0.25)[3].p == 0.25
