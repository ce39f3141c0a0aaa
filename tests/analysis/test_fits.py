import warnings

import numpy as np
import pytest

from experiments.depth_batch.proportionality import RESOLUTION_BYTES
from harness.analysis import AnalysisError
from harness.analysis.fits import FittedModel, Vector, fit
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
SIMULATIONS = 1200


def _scales(values: Vector) -> Vector:
    return np.maximum(np.abs(values), RESOLUTION_BYTES)


def _noisy(seed: int, relative: float = 0.01) -> Vector:
    noise = np.random.default_rng(seed).standard_normal(len(DEPTH))
    return np.asarray(MEAN * (1 + relative * noise), dtype=np.float64)


def _fit(values: Vector) -> FittedModel:
    return fit(COLUMNS, values, _scales(values))


def test_planted_coefficients_come_back_without_noise() -> None:
    answer = _fit(np.asarray(MEAN))
    assert answer.perfect
    for name, value in TRUTH.items():
        assert answer.coefficient(name).estimate == pytest.approx(value, rel=1e-9)
    assert answer.r2 == pytest.approx(1.0)
    equal = fit(COLUMNS, np.full(len(DEPTH), 8.0))
    assert (equal.r2, equal.perfect) == (None, True)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    # Noise grows with size, as in resident sizes: each cell is off by 1% of itself.
    hits = dict.fromkeys(TRUTH, 0)
    for seed in range(SIMULATIONS):
        answer = _fit(_noisy(seed))
        for name, value in TRUTH.items():
            part = answer.coefficient(name)
            hits[name] += known(part.low) <= value <= known(part.high)
    for name, count in hits.items():
        assert 0.93 <= count / SIMULATIONS <= 0.97, name


def test_left_out_predictions_equal_refits_without_the_cell() -> None:
    values = _noisy(3)
    answer = _fit(values)
    for at in (0, 17, 62):
        kept = np.arange(len(values)) != at
        columns = {name: column[kept] for name, column in COLUMNS.items()}
        refit = fit(columns, values[kept], _scales(values)[kept])
        alone = sum(part.estimate * COLUMNS[part.term][at] for part in refit.coefficients)
        assert known(answer.left_out)[at] == pytest.approx(alone, rel=1e-9)


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
    assert (answer.left_out is not None) == judged
