from collections import Counter

import numpy as np
import pytest

from harness.analysis import AnalysisError
from harness.analysis.exact import exact_form
from harness.analysis.fits import exponents, fit
from tests.analysis import planted
from tests.known import known

DEPTH, BATCH = (
    column.ravel().astype(np.float64)
    for column in np.meshgrid(planted.DEPTHS, planted.BATCHES, indexing="ij")
)
COLUMNS = {
    "constant": np.ones_like(DEPTH),
    "depth": DEPTH,
    "batch": BATCH,
    "depth·batch": DEPTH * BATCH,
}
TRUTH = {"constant": 1.6e6, "depth": 5.3e5, "batch": 3184.0, "depth·batch": 1024.0}
MEAN = sum(TRUTH[name] * column for name, column in COLUMNS.items())


def test_too_few_cells_or_equal_columns_are_one_clear_line() -> None:
    with pytest.raises(AnalysisError, match="3 cells cannot distinguish"):
        fit({name: column[:3] for name, column in COLUMNS.items()}, MEAN[:3])
    for factor in (2, 0):
        with pytest.raises(AnalysisError, match="cannot distinguish these terms"):
            fit({"a": DEPTH, "b": factor * DEPTH}, MEAN)


@pytest.mark.parametrize(
    ("rows", "judged"),
    [
        ([0, 1, 9, 10], False),  # as many cells as terms
        ([0, 1, 9, 10, 62], False),  # the far cell alone decides a term
        ([0, 1, 2, 9, 10, 11, 18, 19], True),
    ],
)
def test_fits_without_spare_cells_have_no_interval(rows: list[int], judged: bool) -> None:
    noise = 1 + 0.01 * np.random.default_rng(2).standard_normal(len(DEPTH))
    columns = {name: column[rows] for name, column in COLUMNS.items()}
    answer = fit(columns, (MEAN * noise)[rows])
    assert {part.low is not None for part in answer.coefficients} == {judged}


AXES = {"depth": DEPTH, "batch": BATCH}


def test_intervals_of_exponents_cover_the_truth_as_often_as_they_say() -> None:
    hits: Counter[str] = Counter()
    for seed in range(1000):
        noise = 1 + 0.02 * np.random.default_rng(seed).standard_normal(len(DEPTH))
        result = exponents(AXES, 1024 * DEPTH**0.7 * BATCH * noise)
        for name, truth in (("depth", 0.7), ("batch", 1.0)):
            hits[name] += result[name].low <= truth <= result[name].high
    assert all(0.93 <= count / 1000 <= 0.97 for count in hits.values()), hits


def test_values_without_a_logarithm_are_left_out_and_counted() -> None:
    values = 1024 * DEPTH * BATCH
    values[:6] = [0, 0, 0, 0, 0, -4096]
    result = exponents(AXES, values)
    assert result["depth"].cells == len(values) - 6
    assert result["depth"].estimate == pytest.approx(1.0, abs=1e-9)
    values[3:] = 0
    values[:3] = 1
    with pytest.raises(AnalysisError, match="3 positive cells"):
        exponents(AXES, values)


WHOLE = {name: [*map(int, column)] for name, column in COLUMNS.items()}


@pytest.mark.parametrize("more", [0, 2**60], ids=["as it is", "beyond the precision of floats"])
def test_one_byte_off_in_one_cell_is_no_equality(more: int) -> None:
    values = [more + planted.saved_bytes(*cell) for cell in planted.CELLS]
    result = known(exact_form(WHOLE, values))
    assert result.coefficients["constant"] == more + 4
    for at in (0, 31, len(planted.CELLS) - 1):
        changed = [value + (row == at) for row, value in enumerate(values)]
        assert exact_form(WHOLE, changed) is None


@pytest.mark.parametrize("count", [1, 3, 4])
def test_as_many_coefficients_as_rows_prove_nothing(count: int) -> None:
    rows = [0, 10, 20, 40][:count]
    columns = {name: [column[at] for at in rows] for name, column in WHOLE.items()}
    assert exact_form(columns, [planted.saved_bytes(*planted.CELLS[at]) for at in rows]) is None
