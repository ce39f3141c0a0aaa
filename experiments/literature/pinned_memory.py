"""Folklore: pinned host memory costs what you ask for.

PyTorch's allocator of pinned memory takes the next power of two, never splits a block, and gives
none back when a tensor is freed: the block waits for a request of its own power of two.
"""

from collections.abc import Iterable

import pandas as pd

from harness.analysis.step_runs import Steps
from harness.schema.experiment import Size
from harness.schema.findings import Figure, Judgement, Witness
from harness.schema.traced_run import StepJob
from harness.schema.units import format_bytes

from .judgements import at, claim_experiment, counting, decided_by, over, widest
from .pictures import picture

MIB, GIB = 1 << 20, 1 << 30
SIZES = {
    Size.QUICK: (MIB, 2 * MIB + 1, 3 * MIB),
    Size.DEFAULT: (
        *(1, 4_096, 4_097, MIB, MIB + 1, 2 * MIB + 1, 3 * MIB, 48 * MIB, 64 * MIB + 1),
        *(100 * MIB, 128 * MIB, 135_790_592),
    ),
}
PUBLISHED = {
    135_790_592: (264 * MIB, "free -m also counts other shared pages", "pytorch/pytorch#150517"),
    round(1.2 * GIB): (
        round(10.01 / 5 * GIB),
        "RssShmem of five tensors, divided by five, has 2 MiB more each",
        "sgl-project/sglang#39021, RTX 5090",
    ),
    round(2.5 * GIB): (4 * GIB, "equal", "sgl-project/sglang#40626, B200"),
    4 * GIB: (4 * GIB, "equal: a power of two", "MakazhanAlpamys/Soup#655, L4, RssShmem"),
}
"""Bytes that one tensor took on a real machine, the reason for a difference, the source."""

REUSED = ((3 * MIB, 3 * MIB + 5), (16 * MIB, 1_024), (MIB, 2 * MIB))
"""A tensor that is freed, and the one that follows."""


def job(asked: int, exact_from_mib: int = 0) -> StepJob:
    """Return one pinned tensor; ``exact_from_mib`` sets the threshold above which none rounds."""
    return counting(".pinned_blocks:block_bytes", asked=asked, exact_from_mib=exact_from_mib)


def reuse_job(first: int, second: int) -> StepJob:
    """Return a tensor that follows a freed one."""
    return counting(".pinned_blocks:reuse", first=first, second=second)


def jobs(size: Size) -> Iterable[StepJob]:
    """Return a tensor of each size, those with published numbers, and pairs of tensors."""
    yield from map(job, at(SIZES, size))
    yield from (reuse_job(*pair) for pair in REUSED)
    yield job(3 * MIB, exact_from_mib=1)
    if size is not Size.QUICK:
        yield from (job(asked) for asked in PUBLISHED if asked not in at(SIZES, size))


def block_by_law(asked: int) -> int:
    """Return the next power of two.

    >>> block_by_law(4_096), block_by_law(4_097)
    (4096, 8192)

    """
    return 1 << (asked - 1).bit_length()


def reuse_by_law(first: int, second: int) -> int:
    """Return what two tensors take, the first freed before the second: one block if alike."""
    blocks = block_by_law(first), block_by_law(second)
    return blocks[0] if blocks[0] == blocks[1] else sum(blocks)


def judge(steps: Steps, size: Size) -> Judgement:
    """Ask if a tensor takes the bytes asked for, and if all are free when it is freed."""
    counted = {asked: steps.counted(job(asked)) for asked in at(SIZES, size)}
    taken = {asked: found["taken_bytes"] for asked, found in counted.items()}
    cases = pd.DataFrame(
        {
            "asked": asked,
            "kind": "powers of two" if block_by_law(asked) == asked else "other sizes",
            "bytes taken": found["taken_bytes"] == asked,
            "bytes freed": found["freed_bytes"] == 0,
        }
        for asked, found in counted.items()
    ).melt(["asked", "kind"], var_name="what", value_name="holds")
    exact, freed = cases.groupby("what", sort=False)["holds"].sum()
    highest = max(over(block, asked) for asked, block in taken.items())
    set_exact = steps.counted(job(3 * MIB, exact_from_mib=1))["taken_bytes"]
    pairs = [
        (steps.counted(reuse_job(*pair))["taken_bytes"], reuse_by_law(*pair)) for pair in REUSED
    ]
    return Judgement(
        **decided_by(cases, ["what", "kind", "asked"]),
        number=f"up to {highest:.2f} times the bytes asked for; {len(taken) - freed} of "
        f"{len(taken)} blocks stay",
        measured=f"{exact} of {len(taken)} tensors take their own bytes. {len(taken) - freed} "
        "blocks stay when their tensor is freed. A block is reused only for the same power of two. "
        "With pinned_max_round_threshold_mb:1 in PYTORCH_ALLOC_CONF a tensor of 3 MiB takes "
        f"{format_bytes(set_exact)}.",
        checks=(
            widest("bytes of a block", ((found, block_by_law(n)) for n, found in taken.items())),
            widest("bytes after a tensor that was freed", pairs),
        ),
        witnesses=_witnesses(steps, size),
        figures=(_figure(taken),),
    )


def _witnesses(steps: Steps, size: Size) -> tuple[Witness, ...]:
    if size is Size.QUICK:
        return ()
    return tuple(
        Witness(
            name=f"A pinned tensor of {format_bytes(asked)}",
            published_bytes=published,
            ours_bytes=steps.counted(job(asked))["taken_bytes"],
            why=why,
            source=source,
        )
        for asked, (published, why, source) in PUBLISHED.items()
    )


def _figure(taken: dict[int, int]) -> Figure:
    rows = [(asked, block / asked, "pinned tensor") for asked, block in taken.items()]
    return picture("pinned_memory", pd.DataFrame(rows, columns=["asked_bytes", "ratio", "what"]))


EXPERIMENT = claim_experiment("pinned_memory", jobs=jobs, judge=judge)
