"""The largest value that fits, against trying every value and what is known by construction."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.prediction.largest_value import largest_value, largest_within
from harness.prediction.mlp.cpu_trace import needed_bytes, solve
from harness.schema.workload import Workload
from tests.known import known


@given(limit=st.integers(2, 5000), guess=st.none() | st.integers(0, 10_000))
def test_the_limit_is_found_from_any_guess(limit: int, guess: int | None) -> None:
    request: list[int] = []

    def fits(number: int) -> bool:
        request.append(number)
        return number <= limit

    result = largest_value(fits, low=3, high=4000, guess=guess)
    assert result == (min(limit, 4000) if limit >= 3 else None)
    assert len(request) <= 4 * 14
    assert all(3 <= number <= 4000 for number in request)


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
    assert largest_within(need, budget, low=low, high=299) == (max(tried) if tried else None)


@pytest.mark.parametrize(
    ("need", "budget", "largest", "most"),
    [(lambda n: 1000 + 37 * n, 10**6, 999_000 // 37, 5), (lambda n: 64 * (n // 64), 640, 703, 99)],
)
def test_lines_and_flat_stretches_take_few_evaluations(
    need: Callable[[int], int], budget: int, largest: int, most: int
) -> None:
    request: list[int] = []

    def counted(value: int) -> int:
        request.append(value)
        return need(value)

    assert largest_within(counted, budget, low=1, high=2**31) == largest
    assert len(request) <= most


@pytest.mark.parametrize("cliff", [3, 1_000_003, 3_355_443])
def test_a_need_that_ends_at_a_cliff_is_followed_to_its_edge(cliff: int) -> None:
    """As where a larger batch cannot be described at all."""
    result = largest_within(lambda n: n if n <= cliff else 2**63, 2**40, low=1, high=2**31 - 1)
    assert result == cliff


SMALL = Workload(hidden=(8, 8), in_features=6, classes=3, batch=4)


@pytest.mark.parametrize("axis", ["batch", "width", "depth"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_next_size_does_not_fit(axis: str, optimizer: str) -> None:
    workload = Workload(depth=3, width=8, in_features=6, classes=3, optimizer=optimizer)
    budget = 300_000
    result = known(solve(workload, budget, axis))
    assert needed_bytes(workload.replace(**{axis: result})) <= budget
    assert needed_bytes(workload.replace(**{axis: result + 1})) > budget


def test_no_fewer_examples_than_micro_batches_are_tried() -> None:
    workload = SMALL.replace(accumulate=4)
    assert solve(workload, needed_bytes(workload), "batch") == 4
    assert solve(workload, needed_bytes(workload) - 1, "batch") is None


def test_the_need_is_the_highest_moment_of_build_and_both_steps() -> None:
    workload = Workload(depth=1, width=1, in_features=1, classes=1, batch=1, optimizer="adam")
    # Four parameters of 4 bytes, as many gradients, twice as many moments, four counters, a
    # batch of 4 + 8. Highest is the division in Adam's step: the denominator before, the root,
    # the quotient (4 bytes each), a wrapped number (8) and its cast (4).
    state = 16 + 16 + 32 + 16 + 12
    assert needed_bytes(workload) == state + 4 + 4 + 4 + 8 + 4
