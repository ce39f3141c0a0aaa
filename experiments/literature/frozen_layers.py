"""Bhatia and Dangel 2024: a layer whose parameters are frozen need not keep its input.

PyTorch forgets the input of a frozen linear layer alone. Convolutions and norms keep theirs, and
so does whatever stands behind a linear layer and needs its output: ReLU.
"""

from collections.abc import Iterable, Iterator

import pandas as pd

from harness.analysis.step_runs import Steps
from harness.schema.experiment import Size
from harness.schema.findings import Check, Figure, Judgement, Witness
from harness.schema.traced_run import StepJob

from .judgements import at, by_law, claim_experiment, counting, decided_by, widest
from .mlp_peaks import WORKSPACE_BYTES
from .pictures import picture

FLOAT_BYTES, SIDE, BATCH = 4, 16, 8
DEPTHS = (2, 4)
WITH_PARAMETERS = ("linear", "convolution", "batch norm", "batch norm, eval", "layer norm")
KINDS = {
    Size.QUICK: (WITH_PARAMETERS[:3], ("cpu",)),
    Size.DEFAULT: ((*WITH_PARAMETERS, "linear + ReLU", "GELU", "dropout"), ("cpu", "cuda")),
}
TRAINED = {"all": "trained", "others": "frozen behind a trained layer", "head": "frozen first"}
"""Layers that learn: every one; those before and behind the stack; the last alone."""

RESNET = {
    "all weights trained": ("all", False, 8_403_997_696),
    "all weights frozen, the input needs its gradient": ("input", False, 8_403_997_696),
    "norms trained, convolutions and linear frozen": ("norm", False, 8_403_997_696),
    "all weights frozen, norms in eval": ("input", True, 8_403_572_736),
}
"""Weights that learn, whether norms are in eval mode, and the published peak."""


def stack_job(kind: str, depth: int, trained: str, device: str) -> StepJob:
    """Return a step of a stack of equal layers between a linear layer and a head."""
    return StepJob(
        network=".layer_stacks:FrozenStack",
        arguments={"kind": kind, "depth": depth, "trained": trained},
        batch=BATCH,
        inputs=(f"{SIDE}x{SIDE}x{SIDE}",),
        device="cuda" if device == "cuda" else "cpu",
    )


def resnet_job(trained: str, evaluated: bool) -> StepJob:
    """Return the forward pass of ResNet-101 that the authors measured."""
    return counting(".resnet:forward_peak", trained=trained, evaluated=evaluated)


def _places(size: Size) -> Iterator[tuple[str, str, str]]:
    kinds, devices = at(KINDS, size)
    for kind in kinds:
        for device in devices:
            for trained in TRAINED:
                yield kind, trained, device


def jobs(size: Size) -> Iterable[StepJob]:
    """Return every kind of layer, trained and frozen, at two depths; ResNet-101."""
    for kind, trained, device in _places(size):
        for depth in DEPTHS:
            yield stack_job(kind, depth, trained, device)
    if size is not Size.QUICK:
        for trained, evaluated, _ in RESNET.values():
            yield resnet_job(trained, evaluated)


def kept_bytes(kind: str, trained: str, device: str) -> int:
    """Return what one layer of a stack keeps: its input x, statistics, or a mask."""
    x, channel, row = (FLOAT_BYTES * BATCH * SIDE**3, FLOAT_BYTES * SIDE, FLOAT_BYTES * SIDE**2)
    if trained == "head":  # no gradient is wanted in the stack
        return 0
    if kind == "linear" and trained == "others":
        return 0
    if kind == "batch norm":
        return x + 2 * channel  # mean and deviation of each channel
    if kind == "layer norm":
        return x + 2 * BATCH * row
    if kind == "dropout" and device == "cuda":
        return x // FLOAT_BYTES  # a mask of booleans; the CPU keeps factors
    return x


def kept_table(steps: Steps, size: Size) -> pd.DataFrame:
    """Return what a layer keeps: the rise of the saved bytes from one depth to the next."""
    rows = []
    for kind, trained, device in _places(size):
        low, high = (steps.saved_bytes(stack_job(kind, d, trained, device)) for d in DEPTHS)
        kept = (high - low) // (DEPTHS[1] - DEPTHS[0])
        law = kept_bytes(kind, trained, device)
        rows.append((kind, device, trained, kept, law, high == low))
    return pd.DataFrame(
        rows, columns=["kind", "device", "learns", "kept_bytes", "kept_law_bytes", "nothing"]
    )


def judge(steps: Steps, size: Size) -> Judgement:
    """Ask of each kind of layer with parameters if it keeps nothing once it is frozen."""
    table = kept_table(steps, size)
    behind = table[table["learns"].eq("others") & table["kind"].isin(WITH_PARAMETERS)]
    cases = behind.groupby("kind", sort=False, as_index=False).agg(
        kept_bytes=("kept_bytes", "max"), holds=("nothing", "all")
    )
    first = table.loc[table["learns"] == "head", "kept_bytes"]
    kept = (f"{row.kept_bytes:,} ({row.kind})" for row in cases.itertuples())
    witnesses = _witnesses(steps, size)
    return Judgement(
        **decided_by(cases.assign(kind=cases["kind"] + " layers"), ["kind"]),
        number=f"{cases['holds'].sum()} of {len(cases)} kinds forget their input behind a trained "
        "layer",
        measured=f"A frozen layer behind a trained one keeps these bytes: {', '.join(kept)}. "
        "Before the first trained layer "
        f"{int(first.eq(0).sum())} of {len(first)} stacks keep nothing.",
        checks=(*by_law(table, {"kept": "bytes a layer keeps"}), *_same(witnesses)),
        witnesses=tuple(witnesses),
        figures=(_figure(table),),
    )


def _witnesses(steps: Steps, size: Size) -> list[Witness]:
    if size is Size.QUICK:
        return []
    return [
        Witness(
            name=f"ResNet-101, batch 64, {name}",
            published_bytes=published,
            ours_bytes=steps.counted(resnet_job(trained, evaluated))["peak_bytes"],
            why="4,224 KiB in each of the four cases, as a library's workspace would be",
            source="plutonium-239/memsave_torch, results/paper/poster.csv (max_memory_allocated)",
        )
        for name, (trained, evaluated, published) in RESNET.items()
    ]


def _same(witnesses: list[Witness]) -> list[Check]:
    """Return the checks that all differ from ours alike, by no more than a workspace."""
    apart = {one.difference_bytes for one in witnesses}
    if not apart:
        return []
    source = "real GPU, but for one workspace"
    pairs = ((one.ours_bytes, one.published_bytes) for one in witnesses)
    return [
        Check(
            name="ResNet-101, case by case",
            value=max(apart),
            second=min(apart),
            second_from=source,
        ),
        widest("ResNet-101", pairs, source, allowed=WORKSPACE_BYTES),
    ]


def _figure(table: pd.DataFrame) -> Figure:
    device = str(table["device"].iloc[-1])
    shown = table[table["device"] == device]
    return picture(
        "frozen_layers",
        pd.DataFrame(
            {
                "panel": shown["learns"].map(TRAINED),
                "kind": shown["kind"],
                "activation": shown["kept_bytes"],
            }
        ),
        device="a pretended GPU" if device == "cuda" else "the CPU",
    )


EXPERIMENT = claim_experiment("frozen_layers", jobs=jobs, judge=judge)
