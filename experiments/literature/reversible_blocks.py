"""Gomez et al. 2017 (RevNet): reversible blocks do not store activations, at any depth.

The blocks run in two forms. In the first form, autograd keeps its usual tensors; in the second,
inputs are recomputed from outputs. With recomputed inputs, the kept bytes do not grow with depth,
but the bytes of parameters and gradients grow.
"""

import itertools
from collections.abc import Iterable

import pandas as pd

from harness.analysis.step_runs import Steps
from harness.schema.experiment import Size
from harness.schema.findings import Figure, Judgement
from harness.schema.traced_run import StepJob

from .judgements import at, by_law, claim_experiment, decided_by, over, widest
from .pictures import picture

FLOAT_BYTES, WIDTH = 4, 128
BATCHES = (32, 512)
GRIDS = {
    Size.QUICK: (("cpu",), (2, 8)),
    Size.DEFAULT: (("cpu", "cuda"), (2, 4, 8, 16)),
}
STAGES = (1, 2, 4)


def job(depth: int, batch: int, rebuild: bool, device: str, stages: int = 1) -> StepJob:
    """Return a step of a stack of blocks; each stage begins with an irreversible layer."""
    return StepJob(
        network=".reversible:ReversibleStack",
        arguments={"depth": depth, "width": WIDTH, "rebuild": rebuild, "stages": stages},
        batch=batch,
        inputs=(str(2 * WIDTH),),
        device="cuda" if device == "cuda" else "cpu",
    )


def _grid(size: Size) -> list[tuple[str, int]]:
    return list(itertools.product(at(GRIDS, size)[0], BATCHES))


def jobs(size: Size) -> Iterable[StepJob]:
    """Yield stacks of every depth, with and without recomputation, and stacks of several stages."""
    for device, batch in _grid(size):
        for depth in at(GRIDS, size)[1]:
            for rebuild in (False, True):
                yield job(depth, batch, rebuild, device)
    for stages in STAGES[1:]:
        yield job(8, BATCHES[1], True, "cpu", stages)


def block_bytes() -> int:
    """Return the bytes of a block's parameters; a block has two linear layers."""
    return 2 * FLOAT_BYTES * (WIDTH * WIDTH + WIDTH)


def slopes(steps: Steps, size: Size) -> pd.DataFrame:
    """Return how much a block adds to kept bytes and peak, as measured and as calculated."""
    rows = []
    for device, batch in _grid(size):
        half = FLOAT_BYTES * batch * WIDTH
        for rebuild in (False, True):
            depths = at(GRIDS, size)[1]
            for low, high in itertools.pairwise(depths):
                few, many = (job(depth, batch, rebuild, device) for depth in (low, high))
                peak = steps.peak_bytes(many) - steps.peak_bytes(few)
                kept = steps.saved_bytes(many) - steps.saved_bytes(few)
                law = 0 if rebuild else 4 * half  # inputs and ReLUs of F and G
                rows.append(
                    {
                        "device": device,
                        "batch": batch,
                        "blocks": "reversible" if rebuild else "residual",
                        "depth": high,
                        "holds": kept == 0,
                        "kept_bytes": kept // (high - low),
                        "kept_law_bytes": law,
                        "peak_bytes": peak // (high - low),
                        "peak_law_bytes": block_bytes() + max(law, block_bytes()),
                    }
                )
    return pd.DataFrame(rows)


def judge(steps: Steps, size: Size) -> Judgement:
    """Judge whether reversible blocks keep the same bytes for every number of blocks."""
    table = slopes(steps, size)
    cases = table[table["blocks"] == "reversible"]
    stages = [steps.saved_bytes(job(8, BATCHES[1], True, "cpu", stages)) for stages in STAGES]
    last = table[(table["depth"] == at(GRIDS, size)[1][-1]) & (table["device"] == "cpu")]
    words = "; ".join(
        f"{row.kept_bytes:,} kept and {row.peak_bytes:,} at the peak "
        f"(batch {row.batch}, {row.blocks})"
        for row in last.itertuples()
    )
    return Judgement(
        **decided_by(cases, ["device", "batch", "depth"]),
        number=f"a block keeps {max(cases['kept_bytes'], key=abs):,} bytes, but adds "
        f"{cases['peak_bytes'].max():,} bytes to the peak",
        measured=f"One more block adds these numbers of bytes: {words}. A network of "
        f"{STAGES[-1]} stages keeps {over(stages[-1], stages[0]):.2f} times as many bytes as a "
        "network of one stage.",
        checks=(
            *by_law(
                table,
                {"kept": "bytes a block keeps", "peak": "bytes a block adds to the peak"},
            ),
            widest("bytes of stages", zip(stages, _stages_by_law(stages[0]), strict=True)),
        ),
        figures=(_figure(steps, size),),
    )


def _stages_by_law(one: int) -> list[int]:
    """Return the bytes kept for each of STAGES; ``one`` is the number of bytes for one stage."""
    whole = 2 * FLOAT_BYTES * BATCHES[1] * WIDTH
    return [one + (stages - 1) * 2 * whole for stages in STAGES]


def _figure(steps: Steps, size: Size) -> Figure:
    rows = [
        {
            "panel": what,
            "blocks": "reversible" if rebuild else "residual",
            "depth": depth,
            "bytes": of(job(depth, BATCHES[1], rebuild, "cpu")),
        }
        for what, of in (
            ("Kept for the backward pass", steps.saved_bytes),
            ("Peak of a step", steps.peak_bytes),
        )
        for rebuild in (False, True)
        for depth in at(GRIDS, size)[1]
    ]
    return picture("reversible_blocks", pd.DataFrame(rows), batch=BATCHES[1])


EXPERIMENT = claim_experiment("reversible_blocks", jobs=jobs, judge=judge)
