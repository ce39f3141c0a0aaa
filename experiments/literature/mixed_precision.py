"""Micikevicius et al. 2018: mixed precision nearly halves the memory of training.

Micikevicius et al. store activations and gradients as 16-bit numbers. PyTorch's autocast keeps
parameters, gradients and optimizer state in float32. Autocast casts each weight once per forward
pass, and keeps the 16-bit copy. On CUDA, autocast computes norms in float32. The experiment
``precision`` tests an MLP; this experiment tests a transformer.
"""

from collections.abc import Iterable, Iterator

import pandas as pd

from harness.analysis.step_runs import Steps
from harness.schema.experiment import Size
from harness.schema.findings import Check, Figure, Judgement, Witness
from harness.schema.traced_run import StepJob

from .judgements import at, by_law, claim_experiment, counting, decided_by, near, over
from .pictures import picture

FLOAT_BYTES, WIDTH, HEADS = 4, 256, 4
DEPTHS = (2, 4)

FEW, SOME, MANY, MOST = (1, 32), (2, 96), (8, 128), (128, 128)
"""Pairs (number of examples, number of tokens per example)."""

GRIDS = {
    Size.QUICK: (("cpu", FEW), ("cpu", MANY), ("cuda", FEW), ("cuda", MOST)),
    Size.DEFAULT: (
        *(("cpu", tokens) for tokens in (FEW, SOME, MANY)),
        *(("cuda", tokens) for tokens in (FEW, SOME, MANY, MOST)),
    ),
}

GIB = 1 << 30
MODEL = {
    (128, False): (18.053, 22.452),
    (512, False): (39.750, 36.832),
    (128, True): (51.416, 51.406),
    (512, True): (65.538, 62.674),
}
"""Published peaks in GiB, without and with autocast. A key is a context length with True for
training or False for inference."""

APART = round(0.02 * GIB)


def job(depth: int, tokens: tuple[int, int], autocast: bool, device: str) -> StepJob:
    """Return a training step of a transformer with ``depth`` blocks."""
    batch, context = tokens
    return StepJob(
        network=".transformer:Encoder",
        arguments={"depth": depth, "width": WIDTH, "heads": HEADS},
        batch=batch,
        inputs=(f"{context}x{WIDTH}",),
        autocast="bfloat16" if autocast else None,
        device="cuda" if device == "cuda" else "cpu",
    )


def model_job(context: int, train: bool, autocast: bool) -> StepJob:
    """Return a step of the language model whose peaks on a real GPU are published."""
    own = {"context": context, "train": train, "autocast": autocast}
    return counting(".course_stages:stage_peaks", gpu="a100-80gb", **own)


def _grid(size: Size) -> tuple[tuple[str, tuple[int, int]], ...]:
    return at(GRIDS, size)


def jobs(size: Size) -> Iterable[StepJob]:
    """Yield steps with and without autocast, for each number of tokens and a language model."""
    for device, tokens in _grid(size):
        for depth in DEPTHS:
            for autocast in (False, True):
                yield job(depth, tokens, autocast, device)
    if size is not Size.QUICK:
        for context, train in MODEL:
            for autocast in (False, True):
                yield model_job(context, train, autocast)


def kept_bytes(tokens: tuple[int, int], autocast: bool, device: str) -> int:
    """Return the bytes that a transformer block keeps for the backward pass.

    T is the size of tokens x width elements in float32. A float32 block keeps 16 T: the inputs of
    two norms (2 T), of four linear layers (7 T) and of GELU (4 T), and query, key and value (3 T).
    Under autocast, the inputs and outputs of matmuls have half the size, and a copy of each weight
    is kept. On CUDA, norms keep float32 copies of their inputs.
    """
    batch, context = tokens
    rows = batch * context
    size, weights = FLOAT_BYTES * rows * WIDTH, 12 * WIDTH * WIDTH
    statistics = 2 * 2 * FLOAT_BYTES * rows
    sums = FLOAT_BYTES * HEADS * rows
    if not autocast:
        padded = FLOAT_BYTES * HEADS * batch * (-(-context // 32) * 32)
        return 16 * size + statistics + (padded + 16 if device == "cuda" else sums)
    own = 9 * size + 24 if device == "cuda" else 8 * size
    return own + statistics + sums + 2 * weights


def peak_bytes(kept: int) -> int:
    """Return the bytes that a block adds to the peak, given the bytes that the block keeps."""
    parameters = FLOAT_BYTES * (12 * WIDTH * WIDTH + 13 * WIDTH)
    return parameters + max(kept, parameters)


def blocks(steps: Steps, size: Size) -> pd.DataFrame:
    """Return how much a block adds to kept bytes and peak, as measured and as calculated."""
    rows = []
    for device, tokens in _grid(size):
        for autocast in (False, True):
            few, many = (job(depth, tokens, autocast, device) for depth in DEPTHS)
            whole = job(DEPTHS[-1], tokens, False, device)
            kept = steps.saved_bytes(many) - steps.saved_bytes(few)
            peak = steps.peak_bytes(many) - steps.peak_bytes(few)
            law = kept_bytes(tokens, autocast, device)
            rows.append(
                {
                    "device": device,
                    "tokens": tokens[0] * tokens[1],
                    "autocast": autocast,
                    "kept_bytes": kept // (DEPTHS[1] - DEPTHS[0]),
                    "kept_law_bytes": law,
                    "peak_bytes": peak // (DEPTHS[1] - DEPTHS[0]),
                    "peak_law_bytes": peak_bytes(law),
                    "kept_ratio": over(steps.saved_bytes(many), steps.saved_bytes(whole)),
                    "peak_ratio": over(steps.peak_bytes(many), steps.peak_bytes(whole)),
                }
            )
    return pd.DataFrame(rows)


def judge(steps: Steps, size: Size) -> Judgement:
    """Judge the peak under autocast relative to float32, for each number of tokens."""
    table = blocks(steps, size)
    cast = table[table["autocast"]]
    cases = cast.assign(holds=near(cast["peak_ratio"], 0.5))
    words = "; ".join(
        f"{row.kept_ratio:.2f} for the kept bytes, {row.peak_ratio:.2f} for the peak "
        f"({row.tokens:,} tokens on {row.device})"
        for row in cast.itertuples()
    )
    witnesses = tuple(_witnesses(steps, size))
    on_gpu = table[table["device"] == "cuda"]
    return Judgement(
        **decided_by(cases, ["device", "tokens"]),
        number=f"peak {cast['peak_ratio'].min():.2f} to {cast['peak_ratio'].max():.2f} times "
        "float32's",
        measured=f"Autocast multiplies the bytes of {DEPTHS[-1]} blocks of width {WIDTH} by these "
        f"factors: {words}.",
        checks=(
            *by_law(table, {"kept": "bytes a block keeps"}),
            *by_law(on_gpu, {"peak": "bytes a block adds to the peak on CUDA"}),
            *_changes(witnesses),
        ),
        witnesses=witnesses,
        figures=(_figure(table),),
    )


def _witnesses(steps: Steps, size: Size) -> Iterator[Witness]:
    if size is Size.QUICK:
        return
    for (context, train), published in MODEL.items():
        for autocast, gib in zip((False, True), published, strict=True):
            peaks = steps.counted(model_job(context, train, autocast))
            step = "training step" if train else "forward pass"
            yield Witness(
                name=f"Language model of 3.4 billion parameters, {step}, context {context}, "
                f"{'bfloat16 autocast' if autocast else 'float32'}",
                published_bytes=round(gib * GIB),
                ours_bytes=max(peaks.values()),
                why="before PyTorch 2.15 one or two cuBLAS workspaces of 8,519,680 bytes stayed "
                "allocated; the allocator splits blocks differently",
                source="EnzoDing-rgb/cs336-assignment2-systems, reports/memory-profiling.md, A800",
            )


def _changes(witnesses: tuple[Witness, ...]) -> Iterator[Check]:
    """Yield checks that compare autocast's measured effect on a peak with the published effect."""
    for plain, cast in zip(witnesses[::2], witnesses[1::2], strict=True):
        yield Check(
            name=f"change by autocast, {plain.name.partition(', ')[2].rpartition(', ')[0]}",
            value=cast.ours_bytes - plain.ours_bytes,
            second=cast.published_bytes - plain.published_bytes,
            second_from="real GPU, to 0.02 GiB",
            allowed=APART,
        )


def _figure(table: pd.DataFrame) -> Figure:
    cast = table[table["autocast"]]
    parts = [
        cast.assign(panel=panel, ratio=cast[column], line=cast["device"].str.upper())
        for panel, column in (("Kept", "kept_ratio"), ("Peak", "peak_ratio"))
    ]
    data = pd.concat(parts, ignore_index=True)
    return picture("mixed_precision", data, blocks=DEPTHS[-1], width=WIDTH)


EXPERIMENT = claim_experiment("mixed_precision", jobs=jobs, judge=judge)
