"""Folklore: gradient accumulation costs no memory; a step needs what one micro-batch needs.

True of the activations. The gradients of the micro-batches before stay while the next ones run:
a whole copy of the parameters at the very moment that the activations are there.
"""

import itertools
from collections.abc import Iterable

import pandas as pd

from harness.analysis.step_runs import Steps
from harness.schema.experiment import Size
from harness.schema.findings import Figure, Judgement, Source
from harness.schema.traced_run import StepJob

from .judgements import at, by_law, claim_experiment, decided_by, rule, widest
from .mlp_peaks import COUNTER_BYTES, Mlp
from .pictures import bars

SOURCE = Source(
    citation="Folklore; here huggingface/accelerate#2035, comment of 6 October 2023",
    quote="it doesn't matter how many microsteps of gradient accumulation you perform: peak "
    "memory usage doesn't change. you only need enough memory to survive the microstep.",
    sentence="A step of m micro-batches has the peak of a step of one micro-batch.",
    headline="Gradient accumulation is free",
    rule=rule(
        "the peak of a step of several micro-batches is that of one to the byte",
        "steps of several micro-batches",
    ),
)

DEPTH, WIDTH = 4, 256
OPTIMIZERS = {"sgd": "SGD", ".small_states:adam_foreach": "Adam"}
GRIDS = {
    Size.QUICK: (("cpu",), ("sgd",), (16, 1024), (1, 2)),
    Size.DEFAULT: (("cpu", "cuda"), tuple(OPTIMIZERS), (16, 256, 1024, 4096), (1, 2, 8)),
}


def _step(batch: int) -> Mlp:
    return Mlp(depth=DEPTH, width=WIDTH, batch=batch)


def jobs(size: Size) -> Iterable[StepJob]:
    """Return each micro-batch alone, and two and more of it in one step."""
    devices, optimizers, batches, counts = at(GRIDS, size)
    for device, optimizer, batch, count in itertools.product(devices, optimizers, batches, counts):
        yield _step(batch).job(optimizer, device, count)


def peaks(steps: Steps, size: Size) -> pd.DataFrame:
    """Return a row a step: its peak, that by law, and its rise over one micro-batch."""
    devices, optimizers, batches, counts = at(GRIDS, size)
    rows = []
    for optimizer, device, batch in itertools.product(optimizers, devices, batches):
        own, adam = _step(batch), optimizer != "sgd"
        held = own.parameter_bytes + own.input_bytes + adam * own.adam_bytes(device)
        alone = steps.peak_bytes(own.job(optimizer, device))
        for count in counts:
            peak = steps.peak_bytes(own.job(optimizer, device, count))
            backward = own.backward_peak("kept" if count > 1 else "dropped", device)
            rows.append(
                {
                    "device": device,
                    "optimizer": OPTIMIZERS[optimizer],
                    "batch": batch,
                    "micro_batches": count,
                    "peak_bytes": peak,
                    "peak_law_bytes": held + max(backward, 2 * adam * own.parameter_bytes),
                    "rise_bytes": peak - alone,
                }
            )
    return pd.DataFrame(rows)


def judge(steps: Steps, size: Size) -> Judgement:
    """Ask if the peak of several micro-batches is that of one."""
    table = peaks(steps, size)
    split = table[table["micro_batches"] > 1]
    split = split.assign(holds=split["rise_bytes"] == 0)
    shares = split["rise_bytes"] / _step(1).parameter_bytes
    cases = ["device", "optimizer", "batch"]
    first = split[split["micro_batches"] == 2].set_index(cases)
    last = split.groupby(cases, sort=False)["peak_bytes"].last()
    return Judgement(
        **decided_by(split, ["optimizer", "device", "batch"]),
        number=f"peak rises by {shares.min():.2f} to {shares.max():.2f} times the gradients' bytes",
        measured=f"In {split['holds'].sum()} of {len(split)} steps of several micro-batches the "
        f"peak is that of one; in the others it changes by up to {shares.abs().max():.3f} times "
        "the bytes of all gradients.",
        closed_form="Let P be all gradients and G those that exist when one micro-batch reaches "
        "its peak. With a second micro-batch the backward pass rises by P - G, plus the gradient "
        "of the layer that is being added up, which then exists twice. More micro-batches change "
        "nothing. Adam's update needs 2 P, gradients and temporary tensors.",
        limits="It is free if the optimizer's own step is the peak: Adam, whose temporary tensors "
        "weigh as much as the gradients, with a micro-batch whose activations weigh less. Users "
        "who accumulate because activations fill the GPU pay nearly all of P. Compilers pay it "
        "too: AI-Hypercomputer/maxtext#5039 has 113.82, 165.88 and 165.93 MiB for 1, 2 and 4.",
        checks=(
            *by_law(table, {"peak": "peak of a step"}, allowed=COUNTER_BYTES),
            widest(
                "peak with most micro-batches",
                zip(last, first.loc[last.index, "peak_bytes"], strict=True),
                "peak with two",
            ),
        ),
        figures=(_figure(steps, size),),
    )


def _figure(steps: Steps, size: Size) -> Figure:
    devices, optimizers, batches, counts = at(GRIDS, size)
    rows: list[dict[str, object]] = []
    for batch, optimizer in itertools.product((batches[0], batches[-1]), optimizers):
        for count in counts[:2]:
            parts = steps.parts_at_peak(_step(batch).job(optimizer, devices[0], count))
            named = f"{OPTIMIZERS[optimizer]}, {count} micro-batch{'es' * (count > 1)}"
            rows.append({"panel": f"Micro-batch of {batch:,}", "step": named, **parts})
    return bars(
        "peaks",
        "Live bytes at the peak of a step with one and with two micro-batches of equal size. With "
        "a second one all gradients are there when the activations are.",
        rows,
        bar="step",
    )


EXPERIMENT = claim_experiment(
    SOURCE, title="Accumulated gradients", jobs=jobs, judge=judge, order=110
)
