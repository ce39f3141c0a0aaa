"""Folklore: with gradient accumulation, a step needs only the memory of one micro-batch.

Only the activations of one micro-batch are alive at a time. The summed gradients stay alive between
micro-batches, and are as large as all parameters.
"""

import itertools
from collections.abc import Iterable

import pandas as pd

from harness.analysis.step_runs import Steps
from harness.schema.experiment import Size
from harness.schema.findings import Figure, Judgement
from harness.schema.traced_run import StepJob

from .judgements import at, by_law, claim_experiment, decided_by, widest
from .mlp_peaks import COUNTER_BYTES, Mlp
from .pictures import picture

DEPTH, WIDTH = 4, 256
OPTIMIZERS = {"sgd": "SGD", ".small_states:adam_foreach": "Adam"}
GRIDS = {
    Size.QUICK: (("cpu",), ("sgd",), (16, 1024), (1, 2)),
    Size.DEFAULT: (("cpu", "cuda"), tuple(OPTIMIZERS), (16, 256, 1024, 4096), (1, 2, 8)),
}


def _step(batch: int) -> Mlp:
    return Mlp(depth=DEPTH, width=WIDTH, batch=batch)


def jobs(size: Size) -> Iterable[StepJob]:
    """Yield steps with one micro-batch and steps with several micro-batches."""
    devices, optimizers, batches, counts = at(GRIDS, size)
    for device, optimizer, batch, count in itertools.product(devices, optimizers, batches, counts):
        yield _step(batch).job(optimizer, device, count)


def peaks(steps: Steps, size: Size) -> pd.DataFrame:
    """Return measured and calculated peaks, and the excess over the peak with one micro-batch."""
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
    """Judge whether the peak is the same for every number of micro-batches."""
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
        measured=f"In {split['holds'].sum()} of {len(split)} steps with several micro-batches the "
        "peak equals the peak with one micro-batch. In the other steps the peak changes by up to "
        f"{shares.abs().max():.3f} times the bytes of all gradients.",
        checks=(
            *by_law(table, {"peak": "peak of a step"}, allowed=COUNTER_BYTES),
            widest(
                "peak with the largest number of micro-batches",
                zip(last, first.loc[last.index, "peak_bytes"], strict=True),
                "peak with two micro-batches",
            ),
        ),
        figures=(_figure(steps, size),),
    )


def _figure(steps: Steps, size: Size) -> Figure:
    devices, optimizers, batches, counts = at(GRIDS, size)
    rows = []
    for batch, optimizer in itertools.product((batches[0], batches[-1]), optimizers):
        for count in counts[:2]:
            parts = steps.parts_at_peak(_step(batch).job(optimizer, devices[0], count))
            named = f"{OPTIMIZERS[optimizer]}, {count} micro-batch{'es' * (count > 1)}"
            rows.append({"panel": f"Micro-batch of {batch:,}", "step": named, **parts})
    return picture("accumulated_gradients", pd.DataFrame(rows))


EXPERIMENT = claim_experiment("accumulated_gradients", jobs=jobs, judge=judge)
