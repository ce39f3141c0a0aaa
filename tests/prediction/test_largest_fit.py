"""Solved sizes against exhaustive search and against what is known by construction."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.prediction.mlp.largest_fit import largest, needed_bytes, solve
from harness.schema.workload import Workload

SMALL = Workload(hidden=(8, 8), in_features=6, classes=3, batch=4)


def counting(need: Callable[[int], int]) -> tuple[Callable[[int], int], list[int]]:
    asked: list[int] = []

    def ask(value: int) -> int:
        asked.append(value)
        return need(value)

    return ask, asked


def test_a_straight_line_takes_few_evaluations() -> None:
    ask, asked = counting(lambda value: 1000 + 37 * value)
    assert largest(ask, 1_000_000, low=1, high=2**31) == (1_000_000 - 1000) // 37
    assert len(asked) <= 5


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 2000)), min_size=1, max_size=4),
    st.integers(0, 5000),
    st.integers(1, 5),
)
def test_the_answer_is_that_of_trying_every_value(
    lines: list[tuple[int, int]], budget: int, low: int
) -> None:
    def need(value: int) -> int:
        return max(slope * value + start for slope, start in lines)

    tried = [value for value in range(low, 300) if need(value) <= budget]
    assert largest(need, budget, low=low, high=299) == (max(tried) if tried else None)


def test_steps_and_flat_stretches_are_crossed() -> None:
    def need(value: int) -> int:
        return 64 * (value // 64)

    assert largest(need, 640, low=1, high=2**31) == 703


@pytest.mark.parametrize("axis", ["batch", "width", "depth"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_next_size_does_not_fit(axis: str, optimizer: str) -> None:
    workload = Workload(depth=3, width=8, in_features=6, classes=3, optimizer=optimizer)
    budget = 300_000
    found = solve(workload, budget, axis)
    assert found is not None
    assert needed_bytes(workload.replace(**{axis: found})) <= budget
    assert needed_bytes(workload.replace(**{axis: found + 1})) > budget


def test_nothing_fits_in_a_budget_below_the_parameters() -> None:
    assert solve(SMALL, 100, "batch") is None


def test_no_fewer_examples_than_micro_batches_are_tried() -> None:
    workload = SMALL.replace(accumulate=4)
    assert solve(workload, needed_bytes(workload), "batch") == 4
    assert solve(workload, needed_bytes(workload) - 1, "batch") is None


def test_an_unknown_axis_is_named() -> None:
    with pytest.raises(ValueError, match="axis: 'classes': one of batch, width, depth"):
        solve(SMALL, 1000, "classes")


def test_the_need_is_the_highest_moment_of_build_and_both_steps() -> None:
    workload = Workload(depth=1, width=1, in_features=1, classes=1, batch=1, optimizer="adam")
    # Four parameters of 4 bytes, as many gradients, twice as many moments, four counters, a
    # batch of 4 + 8. Highest is the division in Adam's step: the denominator before, the root,
    # the quotient (4 bytes each), a wrapped number (8) and its cast (4).
    state = 16 + 16 + 32 + 16 + 12
    assert needed_bytes(workload) == state + 4 + 4 + 4 + 8 + 4


@pytest.mark.parametrize("cliff", [3, 1_000_003, 3_355_443])
def test_a_need_that_ends_at_a_cliff_is_followed_to_its_edge(cliff: int) -> None:
    """As where a larger batch cannot be described at all."""
    found = largest(lambda n: n if n <= cliff else 2**63, 2**40, low=1, high=2**31 - 1)
    assert found == cliff
