import warnings

import numpy as np
import pytest

from harness.analysis import AnalysisError
from harness.analysis.fits import Vector, fit
from tests.analysis import planted

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


def _noisy(seed: int, relative: float = 0.01) -> Vector:
    noise = np.random.default_rng(seed).standard_normal(len(DEPTH))
    return np.asarray(MEAN * (1 + relative * noise), dtype=np.float64)


def test_planted_coefficients_come_back_without_noise() -> None:
    answer = fit(COLUMNS, MEAN)
    for name, value in TRUTH.items():
        assert answer.coefficient(name).estimate == pytest.approx(value, rel=1e-9)
    assert answer.r2 == pytest.approx(1.0)
    assert fit(COLUMNS, np.full(len(DEPTH), 8.0)).r2 is None


def test_too_few_cells_or_equal_columns_are_one_clear_line() -> None:
    with pytest.raises(AnalysisError, match="3 cells cannot distinguish"):
        fit({name: column[:3] for name, column in COLUMNS.items()}, MEAN[:3])
    with pytest.raises(AnalysisError, match="cannot distinguish these terms"):
        fit({"a": DEPTH, "b": 2 * DEPTH}, MEAN)
    with pytest.raises(AnalysisError, match="cannot distinguish these terms"):
        fit({"a": DEPTH, "b": 0 * DEPTH}, MEAN)


@pytest.mark.parametrize(
    ("rows", "judged"),
    [
        ([0, 1, 9, 10], False),  # as many cells as terms
        ([0, 1, 9, 10, 62], False),  # the far cell alone decides a term
        ([0, 1, 2, 9, 10, 11, 18, 19], True),
    ],
)
def test_fits_without_spare_cells_have_no_interval(rows: list[int], judged: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = _noisy(2)[rows]
        answer = fit({name: column[rows] for name, column in COLUMNS.items()}, values)
    assert {part.low is not None for part in answer.coefficients} == {judged}
