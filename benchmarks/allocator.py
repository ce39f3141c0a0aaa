"""Events per second of the allocator model.

    python benchmarks/allocator.py [--events 1000000]

Seconds are the process's own (CPU) seconds, so that a busy machine does not count.

An event is one request or one release. Three kinds of run: training steps (the same sizes
come back every step), a random mix of sizes and lifetimes, and the mix on a GPU that is
too small, so that the out-of-memory path is taken again and again.
"""

import argparse
import random
import time
from collections.abc import Iterator

from harness.allocator import AllocatorConfig, CachingAllocator, OutOfMemoryError

MIB = 1 << 20
SIZES = (512, 4096, 40_000, 300_000, MIB, 3 * MIB, 11 * MIB)

Event = tuple[int, int]  # (key, bytes to request) or (key, 0) to release


def training(events: int) -> list[Event]:
    """Return steps of 200 activations that are kept, each with a temporary, then freed."""
    rng = random.Random(0)
    sizes = [rng.choice(SIZES) * rng.randrange(1, 4) for _ in range(200)]
    result: list[Event] = []
    key = 0
    while len(result) < events:
        kept = []
        for size in sizes:
            result += [(key, size), (key + 1, size // 2), (key + 1, 0)]
            kept.append(key)
            key += 2
        result += [(each, 0) for each in reversed(kept)]
    return result[:events]


def mixed(events: int) -> list[Event]:
    """Return requests and releases at random, up to 2,000 alive."""
    rng = random.Random(0)
    result: list[Event] = []
    alive: list[int] = []
    for key in range(events):
        if alive and (rng.random() < 0.5 or len(alive) > 2000):
            index = rng.randrange(len(alive))
            alive[index], alive[-1] = alive[-1], alive[index]
            result.append((alive.pop(), 0))
        else:
            result.append((key, rng.choice(SIZES) * rng.randrange(1, 4)))
            alive.append(key)
    return result


def run(config: AllocatorConfig, events: list[Event]) -> tuple[float, CachingAllocator]:
    """Return the seconds that the events took, and the allocator after them."""
    allocator = CachingAllocator(config)
    where: dict[int, int] = {}
    malloc, free, pop = allocator.malloc, allocator.free, where.pop
    begin = time.process_time()
    for key, size in events:
        if size:
            try:
                where[key] = malloc(size)
            except OutOfMemoryError:
                where[key] = 0
        else:
            free(pop(key))
    return time.process_time() - begin, allocator


def cases(events: int) -> Iterator[tuple[str, AllocatorConfig, list[Event]]]:
    """Yield each kind of run with its settings and events."""
    steps, mix = training(events), mixed(events)
    plain, expandable = AllocatorConfig(), AllocatorConfig(expandable_segments=True)
    yield "training steps, defaults", plain, steps
    yield "training steps, expandable", expandable, steps
    yield "random mix, defaults", plain, mix
    yield "random mix, expandable", expandable, mix
    yield "random mix, max_split_size", AllocatorConfig(max_split_size_bytes=32 * MIB), mix
    yield "random mix, 2 GiB GPU", AllocatorConfig(total_bytes=2048 * MIB), mix


def main() -> None:
    """Print a small table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    events = parser.parse_args().events
    print(f"{'run':<28}{'events':>10}{'seconds':>9}{'events/s':>11}{'reserved peak':>16}{'OOM':>7}")
    for name, config, sequence in cases(events):
        seconds, allocator = run(config, sequence)
        stats = allocator.stats()
        print(
            f"{name:<28}{len(sequence):>10,}{seconds:>9.2f}{len(sequence) / seconds:>11,.0f}"
            f"{stats['reserved_bytes.all.peak']:>16,}{stats['num_ooms']:>7,}"
        )


if __name__ == "__main__":
    main()
