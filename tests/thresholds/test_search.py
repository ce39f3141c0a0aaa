from collections.abc import Callable
from random import Random

from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.thresholds.search import MOST_PROBES, Answer, Reading, search
from tests.property_size import examples

MOST = 2**31 - 1


class Planted:
    """A probe with a known answer that counts how often it is asked."""

    def __init__(self, answer: int, estimate: Callable[[int], int | None] = lambda _: None) -> None:
        self.answer = answer
        self.estimate = estimate
        self.asked: list[int] = []

    def __call__(self, value: int) -> Reading:
        self.asked.append(value)
        fits = value <= self.answer
        return Reading(fits=fits, estimate=self.estimate(value) if fits else None)


def sharp(answer: Answer, at: int) -> bool:
    return (answer.largest_fit, answer.smallest_fail, answer.band) == (at, at + 1, ())


@given(
    answer=st.integers(1, 10**9), guess=st.integers(1, 10**9),
    lie=st.none() | st.integers(-(10**7), 10**7),
)  # fmt: skip
def test_any_answer_is_found_from_any_guess_and_confirmed(
    answer: int, guess: int, lie: int | None
) -> None:
    """Also where estimates lie, which costs probes and never the answer."""
    probe = Planted(answer, lambda value: None if lie is None else value * 7 % 1000 + lie)
    result = search(probe, guess, least=1, most=MOST)
    assert sharp(result, answer)
    assert result.confirmed
    assert probe.asked.count(answer) == 3
    assert probe.asked.count(answer + 1) == 3


@given(
    answer=st.integers(1, 10**9), off=st.floats(-0.005, 0.005), slip=st.none() | st.integers(-1, 1)
)
def test_a_guess_within_half_a_per_cent_needs_at_most_14_probes(
    answer: int, off: float, slip: int | None
) -> None:
    """Of large answers, where probes tell what they needed."""
    if slip is None:
        answer = answer % 20_000 + 1
    probe = Planted(answer, lambda _: None if slip is None else answer + slip)
    assert sharp(search(probe, round(answer * (1 + off)), least=1, most=MOST), answer)
    assert len(probe.asked) <= 14


@given(answer=st.integers(1000, 10**9), off=st.integers(-3, 3))
def test_a_guess_that_is_3_values_off_needs_at_most_10_probes(answer: int, off: int) -> None:
    """As in a cgroup, where what a probe needed says of the answer what the guess said."""
    probe = Planted(answer, lambda _: answer + off)
    assert sharp(search(probe, answer + off, least=1, most=MOST, close=8), answer)
    assert len(probe.asked) <= 10


@given(answer=st.integers(10, 10**6), factor=st.sampled_from([0.1, 0.5, 2.0, 10.0]))
def test_a_guess_ten_times_off_costs_a_logarithm(answer: int, factor: float) -> None:
    probe = Planted(answer)
    assert sharp(search(probe, round(answer * factor), least=1, most=MOST), answer)
    assert len(probe.asked) <= 45


@given(guess=st.integers(1, 1000), least=st.integers(1, 64))
def test_where_all_or_nothing_fits_one_side_is_missing(guess: int, least: int) -> None:
    none, all_fit = Planted(least - 1), Planted(10**9)
    result = search(none, guess, least=least, most=MOST)
    assert (result.largest_fit, result.smallest_fail, result.band) == (None, least, ())
    assert result.confirmed
    assert min(none.asked) == least
    result = search(all_fit, guess, least=1, most=1000)
    assert (result.largest_fit, result.smallest_fail, result.band) == (1000, None, ())
    assert max(all_fit.asked) == 1000


@settings(max_examples=examples(200))
@example(low=10, width=16, seed=172, share=0.5, guess=25)
@given(
    low=st.integers(10, 5000), width=st.integers(0, 30), seed=st.integers(0, 2**32),
    share=st.floats(0.2, 0.8), guess=st.integers(1, 10_000),
)  # fmt: skip
def test_noise_becomes_a_band_that_holds_it(
    low: int, width: int, seed: int, share: float, guess: int
) -> None:
    """All values up to ``low`` fit, all above ``low + width`` fail, between them chance rules."""
    chance = Random(seed)
    seen: dict[int, list[bool]] = {}

    def probe(value: int) -> Reading:
        fits = value <= low or (value <= low + width and chance.random() < share)
        seen.setdefault(value, []).append(fits)
        return Reading(fits=fits)

    result = search(probe, guess, least=1, most=MOST)
    assert result.largest_fit is not None
    assert result.smallest_fail is not None
    assert result.largest_fit < result.smallest_fail
    assert seen[result.largest_fit] == [True] * len(seen[result.largest_fit])
    assert seen[result.smallest_fail] == [False] * len(seen[result.smallest_fail])
    for tried in result.band:
        assert (tried.fits, tried.trials) == (sum(seen[tried.value]), len(seen[tried.value]))
        assert result.largest_fit < tried.value < result.smallest_fail
    count = sum(map(len, seen.values()))
    assert count <= MOST_PROBES
    assert result.confirmed == (count < MOST_PROBES)
