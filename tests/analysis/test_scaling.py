import pytest

from harness.analysis import AnalysisError
from harness.analysis.scaling import doubling_from, scaling
from tests.analysis import planted


def _saved(most: int = 64) -> tuple[list[int], list[int], list[float]]:
    cells = [(d, b) for d in planted.DEPTHS for b in planted.BATCHES if d <= most]
    depths, batches = [d for d, _ in cells], [b for _, b in cells]
    return depths, batches, [float(planted.saved_bytes(d, b)) for d, b in cells]


def test_the_smallest_depth_from_which_doubling_doubles() -> None:
    # 3184 + 1024 d: twice d gives 2 - 3184 / (3184 + 1024 d); within 10% from d = 12.4 on.
    depths, batches, values = _saved()
    result = scaling("depth", depths, batches, values)
    assert result.proportional_from(0.10) == 16
    assert result.proportional_from(0.01) is None
    assert len(result.steps) == 6 * 9
    step = result.steps[(result.steps["line"] == 256) & (result.steps["start"] == 8)].iloc[0]
    expected = planted.saved_bytes(16, 256) / planted.saved_bytes(8, 256)
    assert step["factor"] == pytest.approx(expected, rel=1e-12)
    of_four = scaling("batch", [16, 64, 256], [1, 1, 1], [1.0, 4.0, 32.0])
    assert list(of_four.steps["factor"]) == pytest.approx([2.0, 8**0.5])
    assert scaling("batch", batches, depths, values).proportional_from(0.01) == 16


def test_the_formula_says_it_beyond_the_grid() -> None:
    assert doubling_from(3184, 1024, 0.10) == 13
    assert doubling_from(3184, 1024, 0.01) == 153
    for start, tolerance in ((13, 0.10), (153, 0.01)):
        for n, holds in ((start, True), (start - 1, False)):
            factor = (3184 + 1024 * 2 * n) / (3184 + 1024 * n)
            assert (abs(factor / 2 - 1) <= tolerance) == holds
    assert doubling_from(0, 8, 0.01) == 1
    assert doubling_from(10, 0, 0.10) is None
    assert doubling_from(-10, 5, 0.10) is None


@pytest.mark.parametrize("power", [0.5, 0.0])
def test_a_false_claim_never_settles(power: float) -> None:
    depths, batches, _ = _saved()
    values = [1e6 * d**power * b for d, b in zip(depths, batches, strict=True)]
    result = scaling("depth", depths, batches, values)
    assert result.proportional_from(0.10) is None
    assert result.largest == pytest.approx(2**power)


def test_without_neighbours_there_is_nothing_to_say() -> None:
    with pytest.raises(AnalysisError, match="no two neighbouring cells"):
        scaling("depth", [1, 1], [16, 32], [1.0, 2.0])
    with pytest.raises(AnalysisError, match="no two neighbouring cells"):
        scaling("depth", [1, 2], [16, 16], [0.0, 2.0])
