"""Noise never turns one verdict into its opposite, and what is asked for would decide."""

import numpy as np
import pytest
from scipy import stats

from harness.analysis import decisions
from harness.analysis.decisions import is_below
from harness.schema.findings import Verdict
from tests.known import known


def _interval(random: np.random.Generator, centre: float, count: int) -> tuple[float, float]:
    seen = random.normal(centre, 1.0, count)
    reach = stats.t.ppf(0.5 + decisions.CONFIDENCE / 2, count - 1) * seen.std(ddof=1) / count**0.5
    return float(seen.mean() - reach), float(seen.mean() + reach)


@pytest.mark.parametrize("centre", [-0.5, 0.0, 0.02, 0.5])
def test_repeated_runs_hardly_ever_rule_against_the_truth(centre: float) -> None:
    random = np.random.default_rng(3)
    verdicts = []
    for _ in range(2000):
        low, high = _interval(random, centre, 9)
        verdicts.append(is_below(0.0, low=low, high=high, repeats=9).verdict)
    wrong = Verdict.REFUTED if centre < 0 else Verdict.SUPPORTED
    assert verdicts.count(wrong) <= 0.009 * len(verdicts)
    assert Verdict.OPEN in verdicts


def test_the_number_of_repeats_that_is_named_decides_as_a_rule() -> None:
    random = np.random.default_rng(5)
    reach = stats.t.ppf(0.5 + decisions.CONFIDENCE / 2, 19) / 20**0.5
    first = is_below(0.0, low=-0.3 - reach, high=-0.3 + reach, repeats=20)
    assert first.verdict is Verdict.OPEN
    more = 2 * known(first.repeats)  # with the number that is named, half of all runs decide
    again = [
        is_below(0.0, low=low, high=high, repeats=more).verdict
        for low, high in (_interval(random, -0.3, more) for _ in range(50))
    ]
    assert again.count(Verdict.SUPPORTED) > 35
