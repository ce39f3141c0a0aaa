"""Chen et al. 2016: n layers need the least memory with a checkpoint every sqrt(n) layers.

Segments of sqrt(n) layers are best if a segment's gradients are smaller than the segment's input,
and each layer keeps one tensor of its input's size. If the gradients are larger than the input, the
peak is at the end of the backward pass, when nearly all gradients are alive. In a published run of
a transformer on a real GPU, segments of sqrt(n) layers were not best.
"""

from collections.abc import Iterable, Mapping

import pandas as pd

from harness.analysis.step_runs import Steps
from harness.schema.experiment import Size
from harness.schema.findings import Check, Figure, Judgement, Witness
from harness.schema.traced_run import StepJob

from .judgements import at, by_law, claim_experiment, counting, decided_by, widest
from .mlp_peaks import WORKSPACE_BYTES
from .pictures import picture

FLOAT_BYTES, LABEL_BYTES, LOSS_BYTES = 4, 8, 8

CHAINS = {
    "gradients 0.03 of the input": (64, 2048),
    "gradients half of the input": (256, 512),
    "gradients twice the input": (256, 128),
}
"""Width and batch of each chain of linear layers with ReLU."""

LAYERS = 32
COURSE = {"batch": 4, "layers": LAYERS, "size": 2560, "heads": 32, "inner": 10_240}
"""The "xl" transformer of Stanford's CS336, with AdamW and 3.4 billion float32 parameters."""

PUBLISHED = {
    (512, 0): 65.538, (512, 1): 51.703, (512, 2): 52.149, (512, 4): 53.041, (512, 8): 54.827,
    (512, 16): 58.397, (512, 32): 65.537, (2048, 1): 63.599, (2048, 2): 69.561,
}  # fmt: skip
"""Published allocated peaks in GiB, by sequence length and layers per segment (torch 2.11,
A800-SXM4-80GB)."""

WITNESS = "EnzoDing-rgb/cs336-assignment2-systems, reports/gradient-checkpointing.md (A800)"
WORKSPACES_BYTES = 2 * WORKSPACE_BYTES
"""Bytes of the two workspaces that cuBLAS keeps at compute capability 8.0 with torch 2.11."""
ROUNDING_BYTES = round(0.0005 * 2**30)

DEPTHS = {Size.QUICK: 16, Size.DEFAULT: 36}


def chain_job(depth: int, width: int, batch: int, segment: int) -> StepJob:
    """Return a step of a chain; ``segment`` 0 means no checkpoints."""
    return StepJob(
        network=".networks:chain",
        arguments={"depth": depth, "width": width, "segment": segment},
        batch=batch,
        inputs=(str(width),),
        optimizer="none",
        loss="sum",
    )


def segments(depth: int) -> list[int]:
    """Return the segment lengths that divide the depth."""
    return [length for length in range(1, depth + 1) if depth % length == 0]


def jobs(size: Size) -> Iterable[StepJob]:
    """Yield each chain with each segment length, and the steps of the published transformer."""
    for depth in _depths(size):
        for width, batch in CHAINS.values():
            for segment in (0, *segments(depth)):
                yield chain_job(depth, width, batch, segment)

    for length, segment in PUBLISHED:
        yield course_job(length, segment)
    for layers in (1, 2):
        yield kept_job(layers)


def _depths(size: Size) -> list[int]:
    return sorted({DEPTHS[Size.QUICK], at(DEPTHS, size)})


def course_job(length: int, segment: int) -> StepJob:
    """Return a step of the published transformer, measured as the authors measured the step."""
    own = {"length": length, "segment": segment}
    return counting(".course_lm:peak", gpu="a100-80gb", **COURSE, **own)


def kept_job(layers: int) -> StepJob:
    """Return a step of a transformer with ``layers`` layers, to measure the saved tensors."""
    sizes = {name: value for name, value in COURSE.items() if name != "batch"}
    return StepJob(
        network=".course_lm:LanguageModel",
        arguments={**sizes, "layers": layers, "words": 1000, "length": 512},
        batch=COURSE["batch"],
        inputs=("int64:512",),
        optimizer="none",
        loss="sum",
        device="cuda",
        gpu="a100-80gb",
    )


def law(depth: int, width: int, batch: int, segment: int) -> int:
    """Return a chain's peak by the closed form, the maximum over two moments per layer."""
    x, g = FLOAT_BYTES * batch * width, FLOAT_BYTES * (width * width + width)
    length = segment or depth
    last = depth // length - 1
    highest = depth * g  # the gradients of the step before
    for before in range(last, -1, -1):  # segments whose inputs are still kept
        for layer in range(length, 0, -1):
            done = (last - before) * length + length - layer
            incoming = x if done else 0
            relu = (before + layer) * x + incoming + x + done * g
            inner = 0 if before == 0 and layer == 1 else x
            linear = (before + layer - 1) * x + x + inner + (done + 1) * g
            highest = max(highest, relu, linear)
    return depth * g + x + LABEL_BYTES * batch + LOSS_BYTES + highest


def judge(steps: Steps, size: Size) -> Judgement:
    """Judge for each network whether the segment length closest to sqrt(n) has the lowest peak."""
    chains = pd.concat([chain_table(steps, depth) for depth in _depths(size)], ignore_index=True)
    course = {k: steps.counted(course_job(512, k))["allocated_peak"] for k in (0, *WITNESSED)}
    networks = {
        (f"a chain with {name}", depth): {
            k: steps.peak_bytes(chain_job(depth, *sizes, k)) for k in (0, *segments(depth))
        }
        for depth in _depths(size)
        for name, sizes in CHAINS.items()
    } | {("transformer", LAYERS): course}
    best = {network: lowest(peaks) for network, peaks in networks.items()}
    rows = [
        (name, layers, set(best[name, layers]) <= set(nearest(peaks, layers)))
        for (name, layers), peaks in networks.items()
    ]
    table = pd.DataFrame(rows, columns=["network", "layers", "holds"])
    words = "; ".join(f"{_lengths(k)} ({name}, {n} layers)" for (name, n), k in best.items())
    return Judgement(
        **decided_by(table, ["layers", "network"]),
        number=f"lowest at sqrt(n) in {table['holds'].sum()} of {len(table)} networks; in the "
        f"transformer, lowest at {_lengths(best['transformer', LAYERS])}",
        measured=f"The peak is lowest if a segment has these numbers of layers: {words}.",
        checks=_checks(steps, chains, course),
        witnesses=tuple(_witnesses(steps)),
        figures=(_figure(chains, course),),
    )


def lowest(peaks: Mapping[int, int]) -> list[int]:
    """Return the segment lengths with the lowest peak; 0 means no checkpoints."""
    return [int(length) for length in peaks if peaks[length] == min(peaks.values())]


def nearest(lengths: Iterable[int], layers: int) -> list[int]:
    """Return the segment lengths whose ratio to the square root of ``layers`` is closest to 1.

    >>> nearest([0, 1, 2, 4, 8, 16, 32], 32), nearest([1, 6, 9, 36], 36)
    ([4, 8], [6])
    """
    apart = {k: max(k * k / layers, layers / (k * k)) for k in map(int, lengths) if k}
    return [k for k in apart if apart[k] == min(apart.values())]


WITNESSED = [segment for length, segment in PUBLISHED if length == 512 and segment]


def _checks(steps: Steps, table: pd.DataFrame, course: dict[int, int]) -> tuple[Check, ...]:
    size, inner = COURSE["size"], COURSE["inner"]
    gradients = FLOAT_BYTES * (4 * size**2 + 3 * size * inner + 2 * size)
    slope = steps.saved_bytes(kept_job(2)) - steps.saved_bytes(kept_job(1)) - gradients
    lines = [(course[k], course[1] + (k - 1) * slope) for k in WITNESSED]
    published = [
        (with_workspaces(steps.counted(course_job(*key))), round(gib * 2**30))
        for key, gib in PUBLISHED.items()
    ]
    return (
        *by_law(table, {"peak": "peak of a chain in bytes"}),
        widest("peak of the transformer in bytes", lines, "straight line from saved tensors"),
        widest(
            "peak of the transformer with two cuBLAS workspaces",
            published,
            "real GPU, three digits of a GiB",
            allowed=ROUNDING_BYTES,
        ),
    )  # fmt: skip


def with_workspaces(counted: dict[str, int]) -> int:
    """Return the peak with the two cuBLAS workspaces that older PyTorch versions keep."""
    return counted["allocated_peak"] - counted["workspaces"] + WORKSPACES_BYTES


def _witnesses(steps: Steps) -> Iterable[Witness]:
    for (length, segment), gib in PUBLISHED.items():
        yield Witness(
            name=f"sequence {length:,}, " + (f"k = {segment}" if segment else "no checkpoints"),
            published_bytes=round(gib * 2**30),
            ours_bytes=steps.counted(course_job(length, segment))["allocated_peak"],
            why="two workspaces that cuBLAS kept, 17,039,360 B; rounding",
            source=WITNESS,
        )


def chain_table(steps: Steps, depth: int) -> pd.DataFrame:
    """Return measured and calculated peaks, for each network and segment length."""
    rows = [
        {
            "network": name,
            "layers": depth,
            "segment": segment,
            "peak_bytes": steps.peak_bytes(chain_job(depth, width, batch, segment)),
            "peak_law_bytes": law(depth, width, batch, segment),
        }
        for name, (width, batch) in CHAINS.items()
        for segment in (0, *segments(depth))
    ]
    return pd.DataFrame(rows)


def _lengths(lengths: list[int]) -> str:
    if 0 in lengths:
        return f"none, because all {len(lengths) - 1} lengths have the same peak as no checkpoints"
    return " or ".join(map(str, lengths))


def _figure(table: pd.DataFrame, course: dict[int, int]) -> Figure:
    shown = table[table["layers"] == table["layers"].max()]
    shown = shown.rename(columns={"peak_bytes": "peak", "peak_law_bytes": "law"})
    line = (course[32] - course[1]) / 31
    rows = [(k, course[k], course[1] + (k - 1) * line if k else course[0]) for k in course]
    lm = pd.DataFrame(rows, columns=["segment", "peak", "law"]).assign(network="transformer")
    data = pd.concat([shown, lm], ignore_index=True)
    base = data[data["segment"] == 0].set_index("network")["peak"]
    data = data[data["segment"] > 0]
    data = data.assign(
        ratio=data["peak"] / data["network"].map(base), fit=data["law"] / data["network"].map(base)
    )
    return picture("sqrt_checkpoints", data)


EXPERIMENT = claim_experiment("sqrt_checkpoints", jobs=jobs, judge=judge)
