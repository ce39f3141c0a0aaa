"""Closed forms against numbers worked by hand."""

from typing import Any

import pytest

from harness.prediction.mlp import formula
from harness.schema.workload import Workload

# 3 -> 4 -> 5 -> 2, five examples. Parameters: 3*4+4 + 4*5+5 + 5*2+2 = 16 + 25 + 12 = 53.
SMALL = Workload(hidden=(4, 5), in_features=3, classes=2, batch=5)


def test_parameters_are_weights_and_biases() -> None:
    assert formula.parameter_count(SMALL) == 53
    assert formula.parameter_bytes(SMALL) == 212


def test_gradients_are_as_large_as_parameters_and_absent_in_inference() -> None:
    assert formula.gradient_bytes(SMALL) == 212
    assert formula.gradient_bytes(SMALL.replace(mode="inference")) == 0


@pytest.mark.parametrize(
    ("optimizer", "size"),
    [
        ("none", 0),
        ("sgd", 0),
        ("momentum", 212),
        ("adam", 2 * 212 + 6 * 4),  # six parameter tensors, a counter each
        ("adamw", 2 * 212 + 6 * 4),
    ],
)
def test_optimizer_state(optimizer: str, size: int) -> None:
    assert formula.optimizer_state_bytes(SMALL.replace(optimizer=optimizer)) == size


def test_a_batch_is_examples_and_labels() -> None:
    assert formula.batch_bytes(SMALL) == 5 * 3 * 4 + 5 * 8
    assert formula.batch_bytes(SMALL.replace(mode="inference")) == 60


# Of SMALL: examples 60, labels 40, log-softmax 5*2*4 = 40, total weight 4; a tensor of the
# first layer 5*4*4 = 80, of the second 5*5*4 = 100.
@pytest.mark.parametrize(
    ("activation", "modules"),
    [
        ("relu", {"0": 60, "1": 80, "3": 100, "(network)": 84}),
        ("relu_inplace", {"0": 60, "1": 80, "3": 100, "(network)": 84}),
        ("tanh", {"0": 60, "1": 80, "3": 100, "(network)": 84}),
        ("gelu", {"0": 60, "1": 80, "2": 80, "3": 100, "4": 100, "(network)": 84}),
        ("identity", {"0": 60, "2": 80, "4": 100, "(network)": 84}),
    ],
)
def test_saved_bytes_by_module(activation: str, modules: dict[str, int]) -> None:
    workload = SMALL.replace(activation=activation)
    assert formula.saved_by_module(workload) == modules
    assert formula.saved_bytes(workload) == sum(modules.values())
    assert formula.saved_input_bytes(workload) == 100


@pytest.mark.parametrize(
    ("activation", "copies"), [("relu", 3), ("silu", 2), ("sigmoid", 1), ("relu_inplace", 1)]
)
def test_the_network_by_hand_keeps_all_under_its_own_name(activation: str, copies: int) -> None:
    workload = SMALL.replace(model="mlp-scratch", activation=activation)
    assert formula.saved_by_module(workload) == {"(network)": 60 + copies * 180 + 84}


def test_micro_batches_keep_the_whole_batch_and_the_largest_part() -> None:
    # parts of 2, 2 and 1 examples: 2*4*4 + 2*5*4 + 2*2*4 + 4
    workload = SMALL.replace(accumulate=3)
    assert formula.micro_batches(5, 3) == [2, 2, 1]
    assert formula.saved_input_bytes(workload) == 100
    assert formula.saved_activation_bytes(workload) == 32 + 40 + 16 + 4


def test_checkpointed_segments_keep_their_outputs() -> None:
    assert formula.saved_by_module(SMALL.replace(checkpoint=1)) == {
        "(network)": 60 + 84,
        "4": 100,
    }
    assert formula.saved_by_module(SMALL.replace(checkpoint=2)) == {
        "(network)": 60 + 80 + 84,
        "4": 100,
    }


def test_autocast_saves_casts_of_examples_and_weights_but_the_first() -> None:
    # casts of two bytes: examples 5*3, second weight 4*5, third 5*2; the loss in float32
    workload = SMALL.replace(autocast="bfloat16")
    assert formula.saved_by_module(workload) == {
        "0": 30,
        "1": 40,
        "3": 50,
        "2": 40,
        "4": 20,
        "(network)": 84,
    }
    assert formula.saved_input_bytes(workload) == 40


# Of SMALL: batch normalization has 2*(4 + 5) parameters more, as many running statistics, and a
# count of 8 bytes for each of two layers.
def test_a_normalization_adds_parameters_and_buffers() -> None:
    for norm in ("batch", "layer"):
        normed = SMALL.replace(norm=norm, optimizer="adam")
        assert formula.parameter_bytes(normed) == 4 * (53 + 18)
        assert formula.optimizer_state_bytes(normed) == 2 * 4 * (53 + 18) + 4 * (6 + 4)
    assert formula.buffer_bytes(SMALL.replace(norm="batch")) == 4 * 18 + 2 * 8
    assert formula.buffer_bytes(SMALL.replace(norm="layer")) == 0
    assert formula.buffer_bytes(SMALL) == 0


# A layer's tensor is 80 and 100 bytes as above; statistics of batch normalization are 2*4*4 and
# 2*5*4, of layer normalization 2*5*4 in both. Map i is module 3 i, or 4 i with dropout too.
@pytest.mark.parametrize(
    ("changes", "modules"),
    [
        ({"norm": "batch"}, {"1": 80 + 32, "2": 80, "4": 100 + 40, "5": 100}),
        ({"norm": "layer"}, {"1": 80 + 40, "2": 80, "4": 100 + 40, "5": 100}),
        (
            {"norm": "layer", "activation": "gelu"},
            {"1": 120, "2": 80, "3": 80, "4": 140, "5": 100, "6": 100},
        ),
        ({"norm": "layer", "activation": "identity"}, {"1": 120, "3": 80, "4": 140, "6": 100}),
        ({"dropout": 0.5}, {"1": 80, "2": 80, "3": 80, "4": 100, "5": 100, "6": 100}),
        ({"dropout": 0.5, "activation": "identity"}, {"2": 80, "3": 80, "5": 100, "6": 100}),
        (
            {"norm": "batch", "dropout": 0.5},
            {"1": 112, "2": 80, "3": 80, "4": 80, "5": 140, "6": 100, "7": 100, "8": 100},
        ),
        ({"norm": "batch", "dropout": 0.5, "checkpoint": 1}, {"8": 100}),
    ],
)
def test_norms_keep_input_and_statistics_and_dropout_its_mask(
    changes: dict[str, Any], modules: dict[str, int]
) -> None:
    found = formula.saved_by_module(SMALL.replace(**changes))
    examples = {} if "checkpoint" in changes else {"0": 60}
    assert found == examples | modules | {"(network)": 84 if examples else 60 + 84}


def test_inference_saves_nothing() -> None:
    workload = SMALL.replace(mode="inference")
    assert formula.saved_bytes(workload) == formula.saved_input_bytes(workload) == 0
    assert formula.saved_by_module(workload) == {}
