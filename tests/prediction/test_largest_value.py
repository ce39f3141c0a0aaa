"""The largest value that fits, against trying every value."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.prediction.largest_value import largest_value, largest_within


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


def counting(need: Callable[[int], int]) -> tuple[Callable[[int], int], list[int]]:
    request: list[int] = []

    def ask(value: int) -> int:
        request.append(value)
        return need(value)

    return ask, request


def test_a_straight_line_takes_few_evaluations() -> None:
    ask, request = counting(lambda value: 1000 + 37 * value)
    assert largest_within(ask, 1_000_000, low=1, high=2**31) == (1_000_000 - 1000) // 37
    assert len(request) <= 5


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


def test_steps_and_flat_stretches_are_crossed() -> None:
    def need(value: int) -> int:
        return 64 * (value // 64)

    assert largest_within(need, 640, low=1, high=2**31) == 703


@pytest.mark.parametrize("cliff", [3, 1_000_003, 3_355_443])
def test_a_need_that_ends_at_a_cliff_is_followed_to_its_edge(cliff: int) -> None:
    """As where a larger batch cannot be described at all."""
    result = largest_within(lambda n: n if n <= cliff else 2**63, 2**40, low=1, high=2**31 - 1)
    assert result == cliff
