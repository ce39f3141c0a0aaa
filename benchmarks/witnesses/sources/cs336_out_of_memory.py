"""Six out-of-memory messages of a transformer of 3.4 billion parameters, cited here.

The script is run from a clone, on a GPU with the memory that the message names. The memory outside
of the allocator also follows from the message, as capacity - free - allocated - unallocated.
"""

import contextlib
import functools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.witnesses.clones import extract
from benchmarks.witnesses.rows import MIB, Metric, RefusedError, Row, Sizes, Source

GIB = 1 << 30
COMMIT = "d7b9b89"
SCRIPT = "cs336_systems/benchmark_nvtx.py"
STEPS = ["--model-size", "xl", "--batch-size", "4", "--warmup-steps", "5"]


@dataclass(frozen=True, kw_only=True)
class Message:
    """The numbers of one message, in its units."""

    context: int
    precision: str
    capacity_gib: float
    free_mib: float
    request_mib: float
    allocated_gib: float
    unallocated_mib: float
    gpu: str

    @property
    def outside_bytes(self) -> int:
        """Memory outside of the allocator."""
        used = self.capacity_gib - self.allocated_gib
        return int(used * GIB - (self.free_mib + self.unallocated_mib) * MIB)


BLACKWELL, ADA = "RTX PRO 6000", "RTX 4090"
MESSAGES = tuple(
    Message(
        context=context, precision=precision, capacity_gib=capacity, free_mib=free,
        request_mib=request, allocated_gib=allocated, unallocated_mib=unallocated, gpu=gpu,
    )
    for context, precision, capacity, free, request, allocated, unallocated, gpu in (
        (128, "bf16", 23.52, 91.69, 100, 22.72, 246.04, ADA),
        (128, "none", 23.52, 77.69, 100, 22.81, 169.18, ADA),
        (1_024, "bf16", 94.97, 281.75, 512, 92.28, 1.77 * 1_024, BLACKWELL),
        (1_024, "none", 94.97, 263.75, 512, 88.96, 5.10 * 1_024, BLACKWELL),
        (2_048, "bf16", 94.97, 1.65 * 1_024, 2_048, 91.86, 835.44, BLACKWELL),
        (2_048, "none", 94.97, 869.88, 2_048, 91.51, 1.97 * 1_024, BLACKWELL),
    )
)  # fmt: skip


def rows(clone: Path) -> list[Row]:
    """Return three rows per message, for requested, allocated and reserved bytes."""
    return [
        Row(
            source=SOURCE.name,
            name=f"context {one.context:,}, {one.precision}, {metric}",
            metric=metric,
            measured_bytes=int(measured),
            resolution_bytes=resolution,
            run=functools.partial(_sizes, clone, one),
            traits={"context": one.context, "gpu": one.gpu},
        )
        for one in MESSAGES
        for metric, measured, resolution in _numbers(one)
    ]


def _numbers(one: Message) -> tuple[tuple[Metric, float, int], ...]:
    allocated = one.allocated_gib * GIB
    return (
        ("request", one.request_mib * MIB, MIB),
        ("allocated", allocated, GIB // 100),
        ("reserved", allocated + one.unallocated_mib * MIB, GIB // 50),
    )


@functools.cache
def _sizes(clone: Path, one: Message) -> Sizes:
    """Run the script until it runs out of memory."""
    import harness

    with checkout(clone) as folder:
        report = harness.dry_run(
            folder / SCRIPT,
            *STEPS,
            *("--context-length", one.context, "--mixed-precision", one.precision),
            capability="8.9" if one.gpu == ADA else "8.0",  # torch 2.11 has 12.0's workspaces
            multiprocessors=128 if one.gpu == ADA else 188,
            memory_bytes=int(one.capacity_gib * GIB),
            outside_bytes=one.outside_bytes,
            environment={"PYTHONPATH": f"{folder}/cs336-basics"},
            quiet=True,
        )
    if not report.out_of_memory:
        raise RefusedError(f"no refused allocation: {report.outcome}")
    refused = report.out_of_memory[-1]
    return {
        "request": refused.requested_bytes,
        "allocated": refused.allocated_bytes,
        "reserved": refused.reserved_bytes,
    }


@contextlib.contextmanager
def checkout(clone: Path) -> Iterator[Path]:
    """Yield a folder with the script and the model."""
    paths = [SCRIPT, "cs336-basics/cs336_basics"]
    with tempfile.TemporaryDirectory() as folder:
        extract(clone, COMMIT, paths, folder)
        yield Path(folder)


SOURCE = Source(
    name="cs336-out-of-memory",
    repository="https://github.com/LINYUNLinYun/CS336-assignment2-systems",
    commit=COMMIT,
    paths=("cs336_systems/results/memory_profiles/logs/xl_ctx*_full_step_*.log",),
    licence="Stanford's, permissive",
    made="RTX PRO 6000 and RTX 4090, torch 2.11: AdamW, batch 4; the message of the exception",
    gpu="rtx4090",
    rows=rows,
    scripts=True,
)
