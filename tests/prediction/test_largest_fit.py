"""Solved sizes against exhaustive search and against what is known by construction."""

import pytest

from harness.prediction.mlp.largest_fit import needed_bytes, solve
from harness.schema.workload import Workload

SMALL = Workload(hidden=(8, 8), in_features=6, classes=3, batch=4)


@pytest.mark.parametrize("axis", ["batch", "width", "depth"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_next_size_does_not_fit(axis: str, optimizer: str) -> None:
    workload = Workload(depth=3, width=8, in_features=6, classes=3, optimizer=optimizer)
    budget = 300_000
    result = solve(workload, budget, axis)
    assert result is not None
    assert needed_bytes(workload.replace(**{axis: result})) <= budget
    assert needed_bytes(workload.replace(**{axis: result + 1})) > budget


def test_nothing_fits_in_a_budget_below_the_parameters() -> None:
    assert solve(SMALL, 100, "batch") is None


def test_no_fewer_examples_than_micro_batches_are_tried() -> None:
    workload = SMALL.replace(accumulate=4)
    assert solve(workload, needed_bytes(workload), "batch") == 4
    assert solve(workload, needed_bytes(workload) - 1, "batch") is None


def test_an_unknown_axis_is_named() -> None:
    with pytest.raises(ValueError, match="axis must be one of batch, width, depth, got 'classes'"):
        solve(SMALL, 1000, "classes")


def test_the_need_is_the_highest_moment_of_build_and_both_steps() -> None:
    workload = Workload(depth=1, width=1, in_features=1, classes=1, batch=1, optimizer="adam")
    # Four parameters of 4 bytes, as many gradients, twice as many moments, four counters, a
    # batch of 4 + 8. Highest is the division in Adam's step: the denominator before, the root,
    # the quotient (4 bytes each), a wrapped number (8) and its cast (4).
    state = 16 + 16 + 32 + 16 + 12
    assert needed_bytes(workload) == state + 4 + 4 + 4 + 8 + 4
