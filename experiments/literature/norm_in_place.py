"""Rota Bulo et al. 2018 (InPlace-ABN): batch norm and activation in place save half.

A convolution keeps its input, batch norm keeps its own, and leaky ReLU a third tensor. In place
only the activation's output is kept, which the next convolution keeps anyway.
"""

from collections.abc import Iterable
from itertools import pairwise

import pandas as pd

from harness.analysis.step_runs import Steps
from harness.schema.experiment import Size
from harness.schema.findings import Figure, Judgement, Witness
from harness.schema.traced_run import StepJob

from .judgements import at, by_law, claim_experiment, counting, decided_by, near, over
from .pictures import picture

FLOAT_BYTES, BATCH, CHANNELS, SIDE = 4, 4, 16, 32
GRIDS = {
    Size.QUICK: (("cpu",), (2, 8)),
    Size.DEFAULT: (("cpu", "cuda"), (2, 8, 32)),
}
NORMS = {"leaky": "batch norm, leaky ReLU", "relu": "batch norm, ReLU", "in place": "in place"}
TENSORS = {"leaky": 3, "relu": 2, "in place": 1}
"""Tensors of the size of its input that a layer keeps."""

VGG = {False: round(17_732.86 * 2**20), True: round(11_857.39 * 2**20)}
"""Published peak of VGG-16, batch 128, with batch norm and ReLU, and in place."""


def vgg_job(in_place: bool) -> StepJob:
    """Return the training step of VGG-16 whose peak is published."""
    return counting(".vgg:step_peak", in_place=in_place)


def job(depth: int, norm: str, device: str) -> StepJob:
    """Return a step of a stack of convolutions."""
    return StepJob(
        network=".layer_stacks:conv_stack",
        arguments={"depth": depth, "channels": CHANNELS, "norm": norm},
        batch=BATCH,
        inputs=(f"3x{SIDE}x{SIDE}",),
        device="cuda" if device == "cuda" else "cpu",
    )


def jobs(size: Size) -> Iterable[StepJob]:
    """Return every stack at every depth."""
    devices, depths = at(GRIDS, size)
    for device in devices:
        for depth in depths:
            for norm in NORMS:
                yield job(depth, norm, device)
    if size is not Size.QUICK:
        yield from map(vgg_job, VGG)


def layer_bytes(norm: str) -> int:
    """Return what a layer keeps: tensors x of its input's size, and numbers for each channel."""
    x, channel = FLOAT_BYTES * BATCH * CHANNELS * SIDE * SIDE, FLOAT_BYTES * CHANNELS
    return TENSORS[norm] * x + (1 if norm == "in place" else 2) * channel


def peak_bytes(norm: str) -> int:
    """Return what a layer adds to the peak: what it keeps, its parameters, running statistics."""
    parameters = FLOAT_BYTES * (9 * CHANNELS * CHANNELS + 2 * CHANNELS)
    statistics = 0 if norm == "in place" else 2 * FLOAT_BYTES * CHANNELS + 8
    return layer_bytes(norm) + parameters + statistics


def layers(steps: Steps, size: Size) -> pd.DataFrame:
    """Return what one more layer keeps and adds to the peak, and the closed forms."""
    devices, depths = at(GRIDS, size)
    rows = []
    for device in devices:
        for norm in NORMS:
            for low, high in pairwise(depths):
                few, many = (job(depth, norm, device) for depth in (low, high))
                kept = steps.saved_bytes(many) - steps.saved_bytes(few)
                peak = steps.peak_bytes(many) - steps.peak_bytes(few)
                rows.append(
                    {
                        "norm": norm,
                        "kept_bytes": kept // (high - low),
                        "kept_law_bytes": layer_bytes(norm),
                        "peak_bytes": peak // (high - low),
                        "peak_law_bytes": peak_bytes(norm),
                    }
                )
    return pd.DataFrame(rows)


def judge(steps: Steps, size: Size) -> Judgement:
    """Ask what part of a layer's bytes and of its share of the peak in place saves."""
    table = layers(steps, size)
    most = table.groupby("norm")[["kept_bytes", "peak_bytes"]].max()
    left = {of: over(most[of]["in place"], most[of]["relu"]) for of in most}
    cases = pd.DataFrame({"bytes": ["kept by a layer", "added to the peak"], "left": left.values()})
    cases["holds"] = near(1 - cases["left"], 0.5)
    devices, depths = at(GRIDS, size)
    peaks = {
        depth: [
            over(*(steps.peak_bytes(job(depth, norm, device)) for norm in ("in place", "relu")))
            for device in devices
        ]
        for depth in (depths[0], depths[-1])
    }
    kept = most["kept_bytes"]
    return Judgement(
        **decided_by(cases, ["bytes"]),
        number=f"{left['kept_bytes']:.3f} of a layer's bytes are left, {left['peak_bytes']:.3f} of "
        "what it adds to the peak",
        measured=f"One more layer keeps {kept['in place']:,} bytes in place, {kept['relu']:,} with "
        f"batch norm and ReLU, and {kept['leaky']:,} with leaky ReLU. In place leaves "
        f"{min(peaks[depths[-1]]):.2f} of the whole peak with {depths[-1]} layers and up to "
        f"{max(peaks[depths[0]]):.2f} with {depths[0]} layers.",
        checks=by_law(
            table, {"kept": "bytes a layer keeps", "peak": "bytes a layer adds to the peak"}
        ),
        witnesses=_witnesses(steps, size),
        figures=(_figure(steps, size),),
    )


def _witnesses(steps: Steps, size: Size) -> tuple[Witness, ...]:
    if size is Size.QUICK:
        return ()
    return tuple(
        Witness(
            name=f"VGG-16, batch 128, {'in place' if in_place else 'batch norm and ReLU'}",
            published_bytes=published,
            ours_bytes=steps.counted(vgg_job(in_place))["peak_bytes"],
            why="not known; perhaps cuDNN's workspaces and the kernels of 2019",
            source="bonlime/pytorch-tools, tests/benchmarking/README.md (max_memory_allocated)",
        )
        for in_place, published in VGG.items()
    )


def _figure(steps: Steps, size: Size) -> Figure:
    devices, depths = at(GRIDS, size)
    rows = [
        {"panel": what, "norm": named, "depth": depth, "bytes": of(job(depth, norm, devices[0]))}
        for what, of in (
            ("Kept for the backward pass", steps.saved_bytes),
            ("Peak of a step", steps.peak_bytes),
        )
        for norm, named in NORMS.items()
        for depth in depths
    ]
    return picture("norm_in_place", pd.DataFrame(rows))


EXPERIMENT = claim_experiment("norm_in_place", jobs=jobs, judge=judge)
