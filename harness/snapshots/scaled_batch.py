"""Another batch size, from two recordings of one program: blocks that scale are recognised."""

from collections.abc import Sequence
from dataclasses import replace

from harness.snapshots.what_if import ALLOC, Workload


def scaled_workload(
    first: Workload, second: Workload, batches: tuple[int, int], asked: int
) -> tuple[Workload | None, str]:
    """Return the work of ``first`` at batch ``asked``; None and the reason where it is unknown.

    A block's bytes are taken as a constant plus a multiple of the batch, which two recordings
    determine. Both must have the same requests and releases in the same order; a recording that
    ended early is compared as far as it goes.
    """
    a, b = batches
    if a == b:
        return None, "both recordings have the same batch size"
    if len(first.alive) != len(second.alive):
        return None, "the recordings begin at different moments of the program"
    for position, (mine, theirs) in enumerate(zip(first.steps, second.steps, strict=False)):
        if mine[0] != theirs[0]:
            return None, f"the two recordings do different things from step {position} on"
    steps = []
    for index, (mine, theirs) in enumerate(zip(first.steps, second.steps, strict=False)):
        size = _at(mine[2], theirs[2], batches, asked) if mine[0] == ALLOC else 0
        if size < 0:
            return None, f"the size of request {index} would be negative"
        steps.append((mine[0], mine[1], size, mine[3], mine[4]))
    alive = [
        (mine[0], max(1, _at(mine[1], theirs[1], batches, asked)), mine[2])
        for mine, theirs in zip(first.alive, second.alive, strict=True)
    ]
    return replace(first, steps=tuple(steps), alive=tuple(alive)), ""


def _at(first: int, second: int, batches: Sequence[int], asked: int) -> int:
    """Return the size at the batch asked for, on the line through the two sizes."""
    a, b = batches
    return first + (second - first) * (asked - a) // (b - a)
