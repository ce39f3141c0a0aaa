"""Growth over steps: blocks given as their lives, the line of each, and the ends of the steps."""

from collections.abc import Sequence

import pytest

from harness.schema.growth import Growth, find_growth, series_growth

Block = tuple[int, int | None, int]
"""The step in which a block begins, the one in which it ends if it does, and its bytes."""


def growth_of(blocks: Sequence[Block], steps: int) -> Growth:
    """Return the growth of blocks of one line."""
    sizes = [0] * (10 * steps + 20)
    lifetimes: dict[int, int | None] = {}
    for begin, end, size in blocks:
        sizes[10 * begin] = size
        lifetimes[10 * begin] = None if end is None else 10 * end + 5
    return find_growth(lifetimes, sizes, [10 * step + 8 for step in range(steps)], lambda _: "a")


def test_a_block_that_each_step_keeps_is_a_leak() -> None:
    growth = growth_of([(step, None, 7) for step in range(3, 12)], 12)
    assert (growth.kind, growth.per_step_bytes, growth.since_step) == ("leak", 7, 4)
    assert growth.ends_bytes[-1] == 63


def test_a_cache_that_is_full_is_level_and_one_that_fills_ever_more_slowly_is_open() -> None:
    full = growth_of([(step, None, 7) for step in (1, 2, 3, 5)], 20)
    assert full.kind == "plateau"
    open_ended = growth_of([(step, None, 7) for step in (1, 2, 3, 4, 5, 9, 17)], 20)
    assert open_ended.kind == "unknown"


def test_lengths_that_vary_are_no_growth_and_a_block_that_is_replaced_by_larger_ones_is() -> None:
    lengths = (5, 9, 2, 8, 8, 3, 9, 1, 7, 6)
    live = [(step, step + 1, size) for step, size in enumerate(lengths)]
    assert growth_of(live, 10).kind == "plateau"
    longer = growth_of([(step, step + 1, 3 * step) for step in range(1, 10)], 10)
    assert (longer.kind, longer.per_step_bytes) == ("leak", 3)
    assert "larger" in longer.causes[0]


def test_a_device_on_which_nothing_happens_has_no_growth_and_three_steps_are_too_few() -> None:
    growth = find_growth({}, [], [0, 0, 0, 0, 0], str)
    assert (growth.kind, growth.ends_bytes) == ("plateau", (0, 0, 0, 0, 0))
    assert growth_of([], 3).kind == "unknown"


@pytest.mark.parametrize(
    ("steps", "kind"),
    [
        ([100 * step for step in range(20)], "leak"),
        ([100 * step - 300 * (step % 7 == 3) for step in range(40)], "leak"),  # and collections
        ([500 * (step // 5) for step in range(40)], "leak"),  # each fifth step
        ([2_000 + step % 7 for step in range(20)], "plateau"),
        ([min(step, 5) * 1_000 for step in range(20)], "plateau"),  # warms up
        ([0] * 19 + [2_000], "plateau"),  # freed later, perhaps
        ([4_000 * (step // 9) for step in range(20)], "unknown"),
        ([9 * step for step in range(20)], "plateau"),
        ([100 * step for step in range(7)], "unknown"),
    ],
)
def test_a_series_with_noise_grows_if_each_quarter_adds(steps: list[int], kind: str) -> None:
    growth = series_growth(steps, 50)
    assert growth.kind == kind, growth
    assert growth.per_step_bytes == pytest.approx(100 if kind == "leak" else 0, rel=0.2)
