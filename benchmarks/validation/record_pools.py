"""Allocate at random from several memory pools and streams, and write the memory snapshot.

    python record_pools.py FILE SEED [--one-pool] [--streams]   # on a pretended GPU

``--one-pool`` makes the same requests without any ``torch.cuda.MemPool``: what the what-if "in one
pool" asks. Prints its peak ``reserved`` and ``allocated``, or PyTorch's message.
"""

import argparse
import random
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from benchmarks.validation.record_failures import write_recording

KIB, MIB = 1 << 10, 1 << 20
SIZES = (600, 5_000, 300 * KIB, 700 * KIB, 3 * MIB, 7 * MIB, 12 * MIB, 25 * MIB, 30 * MIB)
POOLS = 3


class Program:
    """Holds tensors by the pool that they came from; a pool that is dropped can be freed."""

    def __init__(self, seed: int, *, one_pool: bool, streams: bool) -> None:
        self._random = random.Random(seed)
        self._one_pool = one_pool
        self._streams = [torch.cuda.default_stream()]
        if streams:
            self._streams.append(torch.cuda.Stream())  # type: ignore[no-untyped-call]
        self._kept: list[tuple[int, torch.Tensor]] = []
        self._pools: dict[int, torch.cuda.MemPool] = {}

    def run(self, operations: int) -> None:
        """Make that many operations."""
        for _ in range(operations):
            kind = self._random.choices(
                ("allocate", "free", "use elsewhere", "empty", "drop pool"), (60, 40, 6, 3, 2)
            )[0]
            if kind == "allocate":
                self._allocate()
            elif kind == "free" and self._kept:
                self._kept.pop(self._random.randrange(len(self._kept)))
            elif kind == "use elsewhere" and self._kept:
                tensor = self._random.choice(self._kept)[1]
                tensor.record_stream(self._random.choice(self._streams))
            elif kind == "empty":
                torch.cuda.empty_cache()
            elif kind == "drop pool":
                self._drop(self._random.randrange(1, POOLS + 1))

    def _allocate(self) -> None:
        pool = self._random.randrange(POOLS + 1)
        size = self._random.choice(SIZES)
        stream = self._random.choice(self._streams)
        with torch.cuda.stream(stream), self._within(pool):
            self._kept.append((pool, torch.empty(size, dtype=torch.uint8, device="cuda")))

    def _within(self, pool: int) -> AbstractContextManager[object]:
        if pool == 0 or self._one_pool:
            return nullcontext()
        if pool not in self._pools:
            self._pools[pool] = torch.cuda.MemPool()
        return torch.cuda.use_mem_pool(self._pools[pool])

    def _drop(self, pool: int) -> None:
        self._kept = [each for each in self._kept if each[0] != pool]
        self._pools.pop(pool, None)


def main() -> None:
    """Run the program that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("seed", type=int)
    parser.add_argument("--one-pool", action="store_true")
    parser.add_argument("--streams", action="store_true")
    parser.add_argument("--operations", type=int, default=250)
    options = parser.parse_args()
    program = Program(options.seed, one_pool=options.one_pool, streams=options.streams)
    write_recording(options.file, lambda: program.run(options.operations))


if __name__ == "__main__":
    main()
