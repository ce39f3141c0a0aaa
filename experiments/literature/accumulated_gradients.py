"""Folklore: gradient accumulation costs no memory; a step needs what one micro-batch needs.

True of the activations. The gradients of the micro-batches before stay while the next ones run:
a whole copy of the parameters at the very moment that the activations are there.
"""

import functools
from collections.abc import Iterable

import pandas as pd

from harness.analysis.step_runs import Steps
from harness.plots.stacked import stacked
from harness.schema.experiment import Size
from harness.schema.findings import Figure, Judgement, Source, Verdict
from harness.schema.traced_run import StepJob

from .judgements import claim_experiment, widest
from .mlp_peaks import Mlp

SOURCE = Source(
    citation="Folklore; here huggingface/accelerate#2035, comment of 6 October 2023",
    quote="it doesn't matter how many microsteps of gradient accumulation you perform: peak "
    "memory usage doesn't change. you only need enough memory to survive the microstep.",
    sentence="A step of m micro-batches has the peak of a step of one micro-batch.",
    headline="Gradient accumulation is free",
)

DEPTH, WIDTH = 4, 256
OPTIMIZERS = {"sgd": "SGD", ".small_states:adam_foreach": "Adam"}
GRIDS = {
    Size.QUICK: (("cpu",), ("sgd",), (16, 1024), (1, 2)),
    Size.DEFAULT: (("cpu", "cuda"), tuple(OPTIMIZERS), (16, 256, 1024, 4096), (1, 2, 8)),
}


def _grid(size: Size) -> tuple[tuple[str, ...], tuple[str, ...], tuple[int, ...], tuple[int, ...]]:
    return GRIDS.get(size, GRIDS[Size.DEFAULT])


def _step(batch: int) -> Mlp:
    return Mlp(depth=DEPTH, width=WIDTH, batch=batch)


def jobs(size: Size) -> Iterable[StepJob]:
    """Return each micro-batch alone, and two and more of it in one step."""
    devices, optimizers, batches, counts = _grid(size)
    for device in devices:
        for optimizer in optimizers:
            for batch in batches:
                for count in counts:
                    yield _step(batch).job(optimizer, device, count)


def peaks(steps: Steps, size: Size) -> pd.DataFrame:
    """Return a row a step: its peak, its backward pass by law, its rise over one micro-batch."""
    devices, optimizers, batches, counts = _grid(size)
    rows = []
    for device in devices:
        for optimizer in optimizers:
            for batch in batches:
                own = _step(batch)
                alone = steps.peak_bytes(own.job(optimizer, device))
                for count in counts:
                    metrics = steps.metrics(own.job(optimizer, device, count))
                    state = 0 if optimizer == "sgd" else own.adam_bytes(device)
                    base = own.parameter_bytes + own.input_bytes + state
                    law = own.backward_peak("kept" if count > 1 else "dropped", device)
                    peak = steps.peak_bytes(own.job(optimizer, device, count))
                    rows.append(
                        {
                            "device": device,
                            "optimizer": OPTIMIZERS[optimizer],
                            "batch": batch,
                            "micro_batches": count,
                            "peak_bytes": peak,
                            "rise_bytes": peak - alone,
                            "backward_bytes": (metrics.phases or {})["backward"].peak_live_bytes,
                            "law_bytes": base + law,
                        }
                    )
    return pd.DataFrame(rows)


def judge(steps: Steps, size: Size) -> Judgement:
    """Ask by how many gradients' bytes the peak rises with the second micro-batch."""
    table = peaks(steps, size)
    split = table[table["micro_batches"] > 1]
    gradients = _step(1).parameter_bytes
    shares = split["rise_bytes"] / gradients
    free = int(split["rise_bytes"].le(0).sum())
    first = split[split["micro_batches"] == 2].set_index(["device", "optimizer", "batch"])
    last = split.groupby(["device", "optimizer", "batch"], sort=False)["peak_bytes"].last()
    some = Verdict.LIMITED if 2 * free >= len(split) else Verdict.REFUTED
    low, high = shares.min(), shares.max()
    return Judgement(
        verdict=Verdict.SUPPORTED if free == len(split) else some,
        number=f"peak rises by {low:.2f} to {high:.2f} times the gradients' bytes",
        measured=f"In {free} of {len(split)} steps of several micro-batches the peak is that of "
        f"one; in the others it rises by up to {high:.3f} times the bytes of all gradients. From "
        "the second micro-batch on their number changes nothing.",
        closed_form="With P for all gradients and G for those that exist when one micro-batch "
        "reaches its peak, the backward pass rises by P - G, plus the gradient of the layer that "
        "is being added up, which then exists twice.",
        limits="It is free where the optimizer's own step is the peak: Adam, whose temporary "
        "tensors weigh as much as the gradients, with a micro-batch whose activations weigh less. "
        "Who accumulates because activations fill the GPU pays nearly all of P. Compilers pay it "
        "too: AI-Hypercomputer/maxtext#5039 has 113.82, 165.88 and 165.93 MiB for 1, 2 and 4.",
        checks=(
            widest(
                "peak of the backward pass",
                zip(table["backward_bytes"], table["law_bytes"], strict=True),
                "closed form",
            ),
            widest(
                "peak with most micro-batches",
                zip(last, first.loc[last.index, "peak_bytes"], strict=True),
                "peak with two",
            ),
        ),
        figures=(_figure(steps, size),),
    )


def _figure(steps: Steps, size: Size) -> Figure:
    devices, optimizers, batches, counts = _grid(size)
    rows = []
    for batch in (batches[0], batches[-1]):
        for optimizer in optimizers:
            for count in counts[:2]:
                parts = steps.parts_at_peak(_step(batch).job(optimizer, devices[0], count))
                named = f"{OPTIMIZERS[optimizer]}, {count} micro-batch{'es' * (count > 1)}"
                rows.append({"panel": f"Micro-batch of {batch:,}", "step": named, **parts})
    return Figure(
        name="peaks",
        caption="What is alive at the peak of a step with one and with two micro-batches of equal "
        "size. With a second one all gradients are there when the activations are.",
        data=pd.DataFrame(rows),
        draw=functools.partial(stacked, panel="panel", bar="step"),
        size=(8.6, 3.0),
    )


EXPERIMENT = claim_experiment(
    SOURCE, title="Accumulated gradients", jobs=jobs, judge=judge, order=110
)
