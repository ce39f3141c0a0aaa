import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.prediction.mlp import formula
from harness.prediction.mlp.largest_fit import needed_bytes
from harness.prediction.mlp.polynomials import (
    POWERS,
    NotPolynomialError,
    Polynomial,
    closed_form,
    needs,
)
from harness.schema.workload import ACTIVATIONS, OPTIMIZERS, Workload

sizes = st.tuples(st.integers(1, 40), st.integers(1, 600), st.integers(1, 900))


def test_the_saved_bytes_come_out_as_the_familiar_formula() -> None:
    found = closed_form(formula.saved_bytes, Workload())
    # B * (4 * in + 8 + 4 * depth * width + 4 * classes) + 4, by hand
    terms = {(0, 0, 0): 4, (0, 0, 1): 4 * 784 + 8 + 4 * 10, (1, 1, 1): 4}
    assert dict(zip(POWERS, found.coefficients, strict=True)) == {
        powers: terms.get(powers, 0) for powers in POWERS
    }


def test_a_polynomial_is_evaluated_by_its_powers() -> None:
    found = Polynomial(coefficients=tuple(range(1, 13)))
    expected = sum(
        (place + 1) * 2**i * 3**j * 5**k
        for place, (i, j, k) in enumerate(itertools.product((0, 1), (0, 1, 2), (0, 1)))
    )
    assert found(2, 3, 5) == expected


@pytest.mark.parametrize(
    "figure",
    [
        lambda workload: workload.depth**2,
        lambda workload: workload.width**3,
        lambda workload: workload.batch**2,
        lambda workload: max(workload.width, 20),
    ],
)
def test_what_is_no_such_polynomial_is_refused(figure: object) -> None:
    with pytest.raises(NotPolynomialError, match="instead of"):
        closed_form(figure, Workload())  # type: ignore[arg-type]  # a lambda has no types


@settings(max_examples=40, deadline=None)
@given(sizes, st.sampled_from(ACTIVATIONS), st.sampled_from(OPTIMIZERS))
def test_the_largest_moment_is_the_peak_of_the_trace(
    size: tuple[int, int, int], activation: str, optimizer: str
) -> None:
    base = Workload(activation=activation, optimizer=optimizer, dtype="float64")
    depth, width, batch = size
    found = max(part(*size) for part in needs(base) if part.holds(depth))
    assert found == needed_bytes(base.replace(depth=depth, width=width, batch=batch))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("activation", ["relu", "gelu", "identity"])
def test_deep_networks_too(activation: str, optimizer: str) -> None:
    base = Workload(activation=activation, optimizer=optimizer)
    parts = needs(base)
    for size in ((64, 4096, 8), (64, 8, 8192), (300, 64, 64)):
        depth, width, batch = size
        expected = needed_bytes(base.replace(depth=depth, width=width, batch=batch))
        assert max(part(*size) for part in parts if part.holds(depth)) == expected


def test_the_pieces_tell_apart_one_layer_two_and_more() -> None:
    ranges = {(part.first_depth, part.last_depth) for part in needs(Workload())}
    assert ranges == {(1, 1), (2, 2), (3, None)}
