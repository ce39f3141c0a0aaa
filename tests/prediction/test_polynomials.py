import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.prediction.mlp.largest_fit import needed_bytes
from harness.prediction.mlp.polynomials import NotPolynomialError, Polynomial, moments
from harness.schema.workload import ACTIVATIONS, OPTIMIZERS, Workload
from tests.property_size import examples

sizes = st.tuples(st.integers(1, 40), st.integers(1, 600), st.integers(1, 900))


def totals(base: Workload) -> list[Polynomial]:
    return [moment.total for moment in moments(base)]


def test_a_polynomial_is_evaluated_by_its_powers() -> None:
    found = Polynomial(coefficients=tuple(range(1, 13)))
    expected = sum(
        (place + 1) * 2**i * 3**j * 5**k
        for place, (i, j, k) in enumerate(itertools.product((0, 1), (0, 1, 2), (0, 1)))
    )
    assert found(2, 3, 5) == expected


def test_live_bytes_that_are_no_polynomial_are_refused() -> None:
    """Micro-batches divide the batch by two: an even one and an odd one follow two rules."""
    with pytest.raises(NotPolynomialError, match="instead of"):
        moments(Workload(accumulate=2))


@settings(max_examples=examples(40))
@given(sizes, st.sampled_from(ACTIVATIONS), st.sampled_from(OPTIMIZERS))
def test_the_largest_moment_is_the_peak_of_the_trace(
    size: tuple[int, int, int], activation: str, optimizer: str
) -> None:
    base = Workload(activation=activation, optimizer=optimizer, dtype="float64")
    depth, width, batch = size
    found = max(part(*size) for part in totals(base) if part.holds(depth))
    assert found == needed_bytes(base.replace(depth=depth, width=width, batch=batch))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("activation", ["relu", "gelu", "identity"])
def test_deep_networks_too(activation: str, optimizer: str) -> None:
    base = Workload(activation=activation, optimizer=optimizer)
    parts = totals(base)
    for size in ((64, 4096, 8), (64, 8, 8192), (300, 64, 64)):
        depth, width, batch = size
        expected = needed_bytes(base.replace(depth=depth, width=width, batch=batch))
        assert max(part(*size) for part in parts if part.holds(depth)) == expected


def test_the_pieces_tell_apart_one_layer_two_and_more() -> None:
    ranges = {(part.first_depth, part.last_depth) for part in totals(Workload())}
    assert ranges == {(1, 1), (2, 2), (3, None)}
