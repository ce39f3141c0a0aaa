import numpy as np
import pytest

from harness.analysis import AnalysisError
from harness.analysis.fits import exponents
from tests.analysis import planted

DEPTH, BATCH = (
    column.ravel().astype(np.float64)
    for column in np.meshgrid(planted.DEPTHS, planted.BATCHES, indexing="ij")
)
AXES = {"depth": DEPTH, "batch": BATCH}


def _noise(seed: int, relative: float = 0.02) -> "np.typing.NDArray[np.float64]":
    return 1 + relative * np.random.default_rng(seed).standard_normal(len(DEPTH))


@pytest.mark.parametrize(("power", "other"), [(1.0, 1.0), (0.5, 1.0), (0.0, 2.0)])
def test_a_power_law_gives_its_exponents(power: float, other: float) -> None:
    result = exponents(AXES, 40 * DEPTH**power * BATCH**other)
    assert result["depth"].estimate == pytest.approx(power, abs=1e-9)
    assert result["batch"].estimate == pytest.approx(other, abs=1e-9)


def test_intervals_of_exponents_cover_the_truth_as_often_as_they_say() -> None:
    hits = {"depth": 0, "batch": 0}
    for seed in range(1000):
        result = exponents(AXES, 1024 * DEPTH**0.7 * BATCH * _noise(seed))
        hits["depth"] += result["depth"].low <= 0.7 <= result["depth"].high
        hits["batch"] += result["batch"].low <= 1.0 <= result["batch"].high
    for name, count in hits.items():
        assert 0.93 <= count / 1000 <= 0.97, name


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
