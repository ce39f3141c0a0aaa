"""Closed forms against numbers worked by hand."""

from collections.abc import Callable
from typing import Any

import pytest

from harness.prediction.mlp import formula
from harness.schema.workload import Workload

# 3 -> 4 -> 5 -> 2, five examples. Parameters: 3*4+4 + 4*5+5 + 5*2+2 = 16 + 25 + 12 = 53.
SMALL = Workload(hidden=(4, 5), in_features=3, classes=2, batch=5)
INFERENCE = {"mode": "inference"}
# Batch normalization has 2*(4 + 5) parameters more, as many running statistics, and a count of
# 8 bytes for each of two layers.
BATCH, LAYER = {"norm": "batch"}, {"norm": "layer"}
# Three micro-batches have 2, 2 and 1 examples; autocast casts all but the first weight.
SIZES: list[tuple[Callable[[Workload], int], dict[str, Any], int]] = [
    (formula.parameter_count, {}, 53),
    (formula.parameter_bytes, {}, 212),
    (formula.parameter_bytes, {"dtype": "bfloat16"}, 106),
    (formula.parameter_bytes, {"dtype": "float64"}, 424),
    (formula.parameter_bytes, BATCH, 4 * (53 + 18)),
    (formula.parameter_bytes, LAYER, 4 * (53 + 18)),
    (formula.gradient_bytes, {}, 212),
    (formula.gradient_bytes, INFERENCE, 0),
    (formula.buffer_bytes, {}, 0),
    (formula.buffer_bytes, BATCH, 4 * 18 + 2 * 8),
    (formula.buffer_bytes, LAYER, 0),
    (formula.batch_bytes, {}, 5 * 3 * 4 + 5 * 8),
    (formula.batch_bytes, INFERENCE, 60),
    (formula.saved_input_bytes, {}, 100),
    (formula.saved_input_bytes, {"accumulate": 3}, 100),
    (formula.saved_activation_bytes, {"accumulate": 3}, 2 * 4 * 4 + 2 * 5 * 4 + 2 * 2 * 4 + 4),
    (formula.saved_input_bytes, {"autocast": "bfloat16"}, 40),
    (formula.saved_input_bytes, INFERENCE, 0),
]


@pytest.mark.parametrize(("function", "changes", "size"), SIZES)
def test_a_size_is_what_is_counted_by_hand(
    function: Callable[[Workload], int], changes: dict[str, Any], size: int
) -> None:
    assert function(SMALL.replace(**changes)) == size


def test_micro_batches_differ_by_an_example_at_most() -> None:
    assert formula.micro_batches(5, 3) == [2, 2, 1]


# Examples 60, labels 40, log-softmax 5*2*4 = 40, total weight 4: 84 of the loss. A tensor of the
# first layer is 5*4*4 = 80, of the second 5*5*4 = 100. Statistics of batch normalization are 2*4*4
# and 2*5*4, of layer normalization 2*5*4 in both. Map i is module 2 i, 3 i with a norm or dropout,
# 4 i with both.
SCRATCH = {"model": "mlp-scratch"}
SAVED: list[tuple[dict[str, Any], dict[str, int]]] = [
    *(
        ({"activation": name}, {"0": 60, "1": 80, "3": 100, "(network)": 84})
        for name in ("relu", "relu_inplace", "tanh")
    ),
    ({"activation": "gelu"}, {"0": 60, "1": 80, "2": 80, "3": 100, "4": 100, "(network)": 84}),
    ({"activation": "identity"}, {"0": 60, "2": 80, "4": 100, "(network)": 84}),
    *(
        (SCRATCH | {"activation": name}, {"(network)": 60 + copies * 180 + 84})
        for name, copies in (("relu", 3), ("silu", 2), ("sigmoid", 1), ("relu_inplace", 1))
    ),
    ({"checkpoint": 1}, {"(network)": 60 + 84, "4": 100}),
    ({"checkpoint": 2}, {"(network)": 60 + 80 + 84, "4": 100}),
    # Casts of two bytes: examples 5*3, second weight 4*5, third 5*2; the loss in float32.
    (
        {"autocast": "bfloat16"},
        {"0": 30, "1": 40, "3": 50, "2": 40, "4": 20, "(network)": 84},
    ),
    (BATCH, {"0": 60, "1": 80 + 32, "2": 80, "4": 100 + 40, "5": 100, "(network)": 84}),
    (LAYER, {"0": 60, "1": 80 + 40, "2": 80, "4": 100 + 40, "5": 100, "(network)": 84}),
    (
        LAYER | {"activation": "gelu"},
        {"0": 60, "1": 120, "2": 80, "3": 80, "4": 140, "5": 100, "6": 100, "(network)": 84},
    ),
    (
        LAYER | {"activation": "identity"},
        {"0": 60, "1": 120, "3": 80, "4": 140, "6": 100, "(network)": 84},
    ),
    (
        {"dropout": 0.5},
        {"0": 60, "1": 80, "2": 80, "3": 80, "4": 100, "5": 100, "6": 100, "(network)": 84},
    ),
    (
        {"dropout": 0.5, "activation": "identity"},
        {"0": 60, "2": 80, "3": 80, "5": 100, "6": 100, "(network)": 84},
    ),
    (
        BATCH | {"dropout": 0.5},
        {"0": 60, "1": 112, "2": 80, "3": 80, "4": 80, "5": 140, "6": 100, "7": 100, "8": 100}
        | {"(network)": 84},
    ),
    (BATCH | {"dropout": 0.5, "checkpoint": 1}, {"8": 100, "(network)": 60 + 84}),
    (INFERENCE, {}),
]


@pytest.mark.parametrize(("changes", "modules"), SAVED)
def test_what_each_module_saves_is_what_is_counted_by_hand(
    changes: dict[str, Any], modules: dict[str, int]
) -> None:
    assert formula.saved_by_module(SMALL.replace(**changes)) == modules
    assert formula.saved_bytes(SMALL.replace(**changes)) == sum(modules.values())
