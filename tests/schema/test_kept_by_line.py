"""Lines that keep bytes over steps: blocks given as their lives, and the ends of the steps.

The truth of each program is in its own words: what it keeps, and whether that ends.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import pytest

from harness.schema.growth import Growth
from harness.schema.kept_by_line import find_growth

Block = tuple[int, int | None, int]
"""The step in which a block begins, the one in which it ends if it does, and its bytes."""
Program = Callable[[int, int], Iterable[Block]]
"""Blocks of a step, given its number and the number of all steps."""


def growth_of(blocks: Sequence[Block], steps: int, lines: int = 1) -> Growth:
    """Return the growth of blocks, of which lines make one after the other."""
    width = len(blocks) + 20
    sizes = [0] * (width * (steps + 1))
    lifetimes: dict[int, int | None] = {}
    places: dict[int, str] = {}
    for number, (begin, end, size) in enumerate(blocks):
        at = width * begin + number
        sizes[at] = size
        places[at] = f"line {number % lines}"
        lifetimes[at] = None if end is None or end >= steps else width * end + width - 2
    ends = [width * step + width - 1 for step in range(steps)]
    return find_growth(lifetimes, sizes, ends, places.__getitem__)


def grown(program: Program, steps: int, lines: int = 1) -> Growth:
    return growth_of(
        [block for step in range(steps) for block in program(step, steps)], steps, lines
    )


def each(number: int) -> Program:
    """A block is kept again after that number of steps."""
    return lambda step, _: [(step, None, 1_000)] if step % number == number - 1 else []


def window(length: int) -> Program:
    """The last blocks are kept, up to that number."""
    return lambda step, _: [(step, step + length, 1_000)]


def first(number: int) -> Program:
    """A cache is full after that number of steps."""
    return lambda step, _: [(step, None, 1_000)] if step < number else []


def since(number: int) -> Program:
    """A block is kept in each step from that one on."""
    return lambda step, _: [(step, None, 1_000)] if step >= number else []


def at(*numbers: int) -> Program:
    """A block is kept in these steps."""
    return lambda step, _: [(step, None, 1_000)] if step in numbers else []


def joined(every: int, cleared: int = 100) -> Program:
    """A block is replaced by a larger one, until it is cleared."""

    def program(step: int, _: int) -> Iterator[Block]:
        if step % every == every - 1:
            yield step, step + every, 1_000 * (step % cleared + 1)

    return program


def lived(leak: int) -> Program:
    """Five blocks live for random times, and another one is kept."""

    def program(step: int, _: int) -> Iterator[Block]:
        times = random.Random(step)
        yield from ((step, step + times.randrange(1, 6), 1_000) for _ in range(5))
        if leak:
            yield step, None, leak

    return program


def until(end: int) -> Program:
    """A list is cleared in that step."""
    return lambda step, _: [(step, end if step < end else None, 1_000)]


LEAKS: dict[str, tuple[Program, int, int, int]] = {
    "each step": (each(1), 20, 1, 1_000),
    "each second step": (each(2), 20, 1, 500),
    "each fifth step": (each(5), 20, 1, 200),
    "each 25th step": (each(25), 100, 1, 40),
    "two lines in turn": (each(1), 20, 2, 1_000),
    "late": (since(15), 20, 1, 1_000),
    "joined": (joined(1), 20, 1, 1_000),
    "joined at each fourth step": (joined(4), 20, 1, 1_000),
    "among blocks that live for random times": (lived(500), 20, 1, 500),
}
LEVEL: dict[str, tuple[Program, int]] = {
    **{f"a window of {length}": (window(length), 20) for length in (2, 3, 4, 8, 15)},
    "once": (at(3), 20),
    "a cache": (first(10), 20),
    "blocks that live for random times": (lived(0), 40),
    "cleared four times": (lambda step, _: [(step, step - step % 5 + 5, 1_000)], 25),
}
NOT_KNOWN: dict[str, tuple[Program, int]] = {
    "each seventh step": (each(7), 20),
    "each tenth step": (each(10), 20),
    "each 40th step": (each(40), 100),
    "from step 18 on": (since(18), 20),
    "a cache that was filled a moment ago": (first(17), 20),
    "ever more rarely": (at(1, 2, 4, 8, 16), 20),
    "three things, each once": (at(3, 8, 14), 20),
    "once, late": (at(14), 20),
    "cleared at the end": (until(18), 20),
    "cleared once": (until(16), 24),
    "joined, and cleared at the end": (lambda step, _: joined(1, 18)(step, 20), 20),
    "a window of ever larger blocks": (lambda step, _: [(step, step + 4, 100 * step)], 30),
}


@pytest.mark.parametrize("name", LEAKS)
def test_what_is_kept_again_and_again_is_a_leak(name: str) -> None:
    program, steps, lines, per_step = LEAKS[name]
    growth = grown(program, steps, lines)
    assert (growth.kind, growth.per_step_bytes) == ("leak", per_step), growth


@pytest.mark.parametrize("name", LEVEL)
def test_what_ends_is_level(name: str) -> None:
    growth = grown(*LEVEL[name])
    assert (growth.kind, growth.per_step_bytes) == ("plateau", 0), growth


@pytest.mark.parametrize("name", NOT_KNOWN)
def test_what_may_go_on_or_not_is_not_known(name: str) -> None:
    growth = grown(*NOT_KNOWN[name])
    assert (growth.kind, growth.per_step_bytes) == ("unknown", 0), growth


def test_a_block_of_a_new_line_in_each_step_is_not_known() -> None:
    assert grown(each(1), 20, lines=20).kind == "unknown"


def test_growth_has_its_first_step_and_the_bytes_at_the_ends() -> None:
    growth = growth_of([(step, None, 7) for step in range(3, 12)], 12)
    assert (growth.kind, growth.per_step_bytes, growth.since_step) == ("leak", 7, 4)
    assert growth.ends_bytes[-1] == 63


def test_a_thing_made_once_is_no_part_of_what_a_step_adds() -> None:
    blocks: list[Block] = [(step, None, 1_000) for step in range(24)]
    growth = growth_of([*blocks, (14, None, 900_000)], 24)
    assert growth.kind == "leak"
    assert growth.per_step_bytes == pytest.approx(1_000, rel=0.06)


def test_another_line_that_may_grow_makes_it_a_lower_bound() -> None:
    blocks: list[Block] = [block for step in range(24) for block in ((step, None, 10),) * 2]
    blocks[2 * 17 + 1] = (17, None, 10)
    alone = growth_of(blocks[::2], 24)
    assert not alone.is_least
    mixed = [block if number % 2 == 0 or block[0] == 17 else (block[0], block[0], 10)
             for number, block in enumerate(blocks)]  # fmt: skip
    growth = growth_of(mixed, 24, lines=2)
    assert (growth.kind, growth.per_step_bytes, growth.is_least) == ("leak", 10, True)


def test_lengths_that_vary_or_grow_with_the_steps_are_no_growth_and_what_is_joined_is() -> None:
    lengths = (5, 9, 2, 8, 8, 3, 9, 1, 7, 6)
    live: list[Block] = [(step, step + 1, size) for step, size in enumerate(lengths)]
    assert growth_of(live, 10).kind == "plateau"
    longer: list[Block] = [(step, step + 1, 3 * step) for step in range(1, 10)]
    growth = growth_of(longer, 10)
    assert (growth.kind, growth.per_step_bytes) == ("leak", 3)
    assert "larger" in growth.causes[0]
    work: list[Block] = [(step, step, 7 * step) for step in range(1, 10)]
    assert growth_of([*longer, *work], 10).kind == "unknown"


def test_a_device_on_which_nothing_happens_has_no_growth_and_three_steps_are_too_few() -> None:
    growth = find_growth({}, [], [0, 0, 0, 0, 0], str)
    assert (growth.kind, growth.ends_bytes) == ("plateau", (0, 0, 0, 0, 0))
    assert growth_of([], 3).kind == "unknown"


def reservoir(seed: int, steps: int, slots: int) -> list[Block]:
    """A full buffer in which random blocks are replaced, ever more rarely."""
    chance = random.Random(seed)
    filled: list[int] = []
    blocks: list[Block] = []
    for step in range(1, steps):
        slot = len(filled) if len(filled) < slots else chance.randrange(step)
        if slot < len(filled):
            blocks.append((filled[slot], step, 1_000))
            filled[slot] = step
        elif slot < slots:
            filled.append(step)
    return [*blocks, *((step, None, 1_000) for step in filled)]


def test_a_buffer_with_random_places_is_next_to_never_growth() -> None:
    kinds = Counter(
        growth_of(reservoir(seed, steps, slots), steps).kind
        for seed in range(50)
        for steps, slots in ((24, 4), (24, 8), (48, 4), (48, 8))
    )
    assert kinds["leak"] <= 1
    assert kinds["plateau"] > 150


@pytest.mark.parametrize("leak", [100, 500])
def test_a_leak_among_blocks_of_random_lives_is_never_called_level(leak: int) -> None:
    for seed in range(40):
        times = random.Random(seed)
        blocks: list[Block] = [
            (step, step + times.randrange(7), 1_000) for step in range(1, 30) for _ in range(5)
        ]
        growth = growth_of([*blocks, *((step, None, leak) for step in range(1, 30))], 30)
        assert growth.kind in ("leak", "unknown"), growth
        assert growth.per_step_bytes in (0, leak)
