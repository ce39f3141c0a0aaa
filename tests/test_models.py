import pytest
import torch

from harness.models import MLP, SIGMA, MLPScratch, relu
from harness.workload import ACTIVATIONS


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


def test_the_hand_written_relu_is_relu_and_the_notes_is_not() -> None:
    x = torch.tensor([[-1.0, 2.0], [3.0, -4.0]])
    assert torch.equal(relu(x), torch.nn.functional.relu(x))
    assert not isinstance(torch.max(x, 0), torch.Tensor)


def test_scratch_weights_have_the_notes_spread_and_biases_are_zero() -> None:
    torch.manual_seed(0)
    scratch = MLPScratch(784, [256], 10, "relu")
    assert scratch.weights[0].detach().std().item() == pytest.approx(SIGMA, rel=0.02)
    assert all(not bias.any() for bias in scratch.biases)


def test_the_notes_network_has_its_published_number_of_parameters() -> None:
    """784 x 256 + 256 + 256 x 10 + 10, as d2l counts them."""
    for model in (MLP(784, [256], 10, "relu"), MLPScratch(784, [256], 10, "relu")):
        assert sum(p.numel() for p in model.parameters()) == 203_530


def test_a_predictor_on_blocks_is_the_whole_network() -> None:
    for model in (MLP(6, [5, 4], 3, "tanh"), MLPScratch(6, [5, 4], 3, "tanh")):
        x = torch.randn(7, 6)
        hidden = x
        for block in model.blocks():
            hidden = block(hidden)
        torch.testing.assert_close(model.predictor(hidden), model(x))
