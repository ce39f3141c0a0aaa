"""Growth of a series with noise: bytes at the ends of steps."""

import math
import random

import pytest

from harness.schema.growth import Growth, series_growth


@pytest.mark.parametrize(
    ("steps", "kind"),
    [
        ([100 * step for step in range(20)], "leak"),
        ([100 * step - 300 * (step % 7 == 3) for step in range(40)], "leak"),  # and collections
        ([500 * (step // 5) for step in range(40)], "leak"),  # each fifth step
        ([1_000 * (step // 10) for step in range(40)], "leak"),
        ([200 * (step // 2) for step in range(9)], "leak"),
        ([2 * step * step + 20 * step for step in range(40)], "leak"),
        ([100 * step + 5_000 * (step % 7) / 7 for step in range(40)], "leak"),
        ([2_000 + step % 7 for step in range(20)], "plateau"),
        ([min(step, 5) * 1_000 for step in range(20)], "plateau"),  # warms up
        ([0] * 19 + [2_000], "plateau"),  # freed later, perhaps
        ([100 * (step % 10) for step in range(40)], "plateau"),  # cleared at each tenth step
        ([9 * step for step in range(20)], "plateau"),
        ([100 * step for step in range(7)], "unknown"),
        ([4_000 * (step // 9) for step in range(20)], "unknown"),
        ([100 * step for step in range(39)] + [0], "unknown"),  # freed at the end
        ([100 * step for step in range(37)] + [0, 100, 200], "unknown"),
        ([100 * (step % 30) for step in range(40)], "unknown"),
        ([1_200 * step**0.5 for step in range(40)], "unknown"),  # a cache that fills
        ([1_200 * math.log(1 + step) for step in range(40)], "unknown"),
        ([49 * step for step in range(40)], "unknown"),  # noise may be as much
        ([100 * max(0, step - 25) for step in range(40)], "unknown"),
        ([1_000 * max(0, step - 36) for step in range(40)], "unknown"),
        ([100 * min(step, 30) for step in range(40)], "unknown"),
        ([1_500 * (step // 15) for step in range(40)], "unknown"),
        ([-160 * step if step < 20 else 100 * step - 5_200 for step in range(40)], "unknown"),
    ],
)
def test_a_series_with_noise_grows_if_each_quarter_adds(steps: list[float], kind: str) -> None:
    growth = series_growth(list(map(int, steps)), 50)
    assert growth.kind == kind, growth
    assert growth.per_step_bytes == pytest.approx(100 if kind == "leak" else 0, rel=0.25)


@pytest.mark.parametrize(("leak", "kind", "few"), [(0, "leak", 2), (1_000, "plateau", 0)])
def test_noise_is_seldom_growth_and_never_hides_a_leak(leak: int, kind: str, few: int) -> None:
    seen = 0
    for seed in range(200):
        noise = random.Random(seed)
        steps = [leak * step + noise.randrange(40_000) for step in range(40)]
        seen += series_growth(steps, 50).kind == kind
    assert seen <= few


def test_what_is_not_proved_is_a_lower_bound_of_growth_and_an_upper_one_of_steps() -> None:
    growth = Growth(kind="leak", reason="more is kept", per_step_bytes=512, is_least=True)
    first, second = growth.lines(left_bytes=5_120)
    assert first == "Growth: at least 512 B more a step; more is kept."
    assert second == "  Memory ends after at most 10 steps."
