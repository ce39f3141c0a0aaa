"""Dettmers et al. 2021, Shazeer and Stern 2018: 8-bit or factored moments save memory.

bitsandbytes needs its own CUDA kernels, so the tested 8-bit Adam consists of plain PyTorch
operators. Each moment has one byte per element and one scale per block of 2,048 elements, as in the
paper.
"""

import itertools
from collections.abc import Iterable, Iterator

import pandas as pd

from harness.analysis.decisions import ROUGHLY
from harness.analysis.step_runs import Steps
from harness.schema.experiment import Size
from harness.schema.findings import Figure, Judgement, Witness
from harness.schema.traced_run import StepJob

from .judgements import at, by_law, claim_experiment, counting, decided_by, over
from .mlp_peaks import FLOAT_BYTES, WORKSPACE_BYTES, Mlp
from .pictures import picture

ADAM = ".small_states:adam_loop"
SMALLER = {".small_states:Adam8bit": "8-bit Adam", ".small_states:adafactor": "Adafactor"}
GRIDS = {
    Size.QUICK: (("cpu", "cuda"), (16,)),
    Size.DEFAULT: (("cpu", "cuda"), (16, 256, 1024)),
}
DEPTH, WIDTH, BLOCK = 4, 256, 2048

SMALL_BYTES = 16_384
"""Upper bound of the bytes of an update's small temporary tensors; the closed form ignores them."""

BERT = {".small_states:Adam8bit": 13_085, ".small_states:adafactor": 12_295}
"""Published memory of BERT-large with batch 4 on a V100, in MiB; Adam needs 14,949 MiB."""

BERT_ADAM, MIB = 14_949, 1 << 20


def bert_job(optimizer: str) -> StepJob:
    """Return the job that counts the bytes of an optimizer's states for BERT-large."""
    named = optimizer.rpartition(":")[2]
    return counting(".small_states:bert_large_states", optimizer=named)


def _grid(size: Size) -> Iterator[tuple[str, Mlp]]:
    for device, batch in itertools.product(*at(GRIDS, size)):
        yield device, Mlp(depth=DEPTH, width=WIDTH, batch=batch)


def jobs(size: Size) -> Iterable[StepJob]:
    """Yield a step with each optimizer at each batch, and the jobs for BERT-large."""
    for device, own in _grid(size):
        for optimizer in (ADAM, *SMALLER):
            yield own.job(optimizer, device)
    if size is not Size.QUICK:
        yield from map(bert_job, (ADAM, *BERT))


def state_bytes(own: Mlp, optimizer: str, device: str) -> int:
    """Return the bytes of an optimizer's state by the closed form."""
    counters = FLOAT_BYTES * 2 * len(own.shapes)
    if optimizer == ADAM:
        return own.adam_bytes(device)
    if optimizer.endswith("adafactor"):  # row and column sums, and a counter for each parameter
        floats = sum(rows + columns + rows for rows, columns in own.shapes)
        return FLOAT_BYTES * floats + (counters if device == "cpu" else 0)
    tensors = [size for rows, columns in own.shapes for size in (rows * columns, rows)]
    return sum(2 * (size + FLOAT_BYTES * -(-size // BLOCK)) for size in tensors)


def peak_by_law(own: Mlp, optimizer: str, device: str) -> int:
    """Return the calculated peak, i.e. the larger peak of the backward pass and the update.

    Adam and 8-bit Adam need two temporary float32 tensors of the weight's size. Adafactor needs one
    temporary tensor of the weight's size for the product of two factors. On CUDA, the product of
    the factors also uses the cuBLAS workspace.
    """
    largest = max(FLOAT_BYTES * rows * columns for rows, columns in own.shapes)
    update = 2 * largest
    if optimizer.endswith("adafactor"):
        update = largest + (WORKSPACE_BYTES if device == "cuda" else 0)
    held = own.parameter_bytes + own.input_bytes + state_bytes(own, optimizer, device)
    return held + max(own.backward_peak("dropped", device), own.parameter_bytes + update)


def peaks(steps: Steps, size: Size) -> pd.DataFrame:
    """Return each optimizer's state bytes and peak, and how far the peak is below Adam's peak."""
    rows = []
    for device, own in _grid(size):
        adam = own.job(ADAM, device)
        before, whole = steps.parts_at_peak(adam)["optimizer_state"], steps.peak_bytes(adam)
        for optimizer, name in SMALLER.items():
            other = own.job(optimizer, device)
            state, peak = steps.parts_at_peak(other)["optimizer_state"], steps.peak_bytes(other)
            saved = before - state
            rows.append(
                {
                    "device": device,
                    "optimizer": name,
                    "batch": own.batch,
                    "state_bytes": state,
                    "state_law_bytes": state_bytes(own, optimizer, device),
                    "peak_bytes": peak,
                    "peak_law_bytes": peak_by_law(own, optimizer, device),
                    "adam_bytes": whole,
                    "adam_law_bytes": peak_by_law(own, ADAM, device),
                    "reached": over(whole - peak, saved),
                    "of_peak": over(whole - peak, whole),
                }
            )
    return pd.DataFrame(rows)


def judge(steps: Steps, size: Size) -> Judgement:
    """Judge whether the peak falls by as many bytes as the optimizer's state."""
    table = peaks(steps, size).sort_values("optimizer", kind="stable")
    cases = table.assign(holds=table["reached"] >= 1 - ROUGHLY)
    state = state_bytes(Mlp(depth=DEPTH, width=WIDTH, batch=1), ADAM, "cuda")
    shares = ", ".join(
        f"{100 * part['state_law_bytes'].iloc[-1] / state:.1f}% ({name})"
        for name, part in table.groupby("optimizer", sort=False)
    )
    reached, of_peak = 100 * table["reached"], 100 * table["of_peak"]
    adam = table[["adam_bytes", "adam_law_bytes"]].set_axis(
        ["peak_bytes", "peak_law_bytes"], axis=1
    )
    return Judgement(
        **decided_by(cases, ["optimizer", "device", "batch"]),
        number=f"{reached.min():.1f}% to {reached.max():.0f}% of the state's saving reaches the "
        "peak",
        measured=f"The state takes this share of the bytes of Adam's state: {shares}. "
        f"{cases['holds'].sum()} of {len(table)} peaks fall by all bytes that the state saves, "
        "within 10%. "
        f"The peaks fall by {of_peak.min():.0f}% to {of_peak.max():.0f}%.",
        checks=(
            *by_law(table, {"state": "bytes of the state"}),
            *by_law(pd.concat([table, adam]), {"peak": "peak of a step"}, allowed=SMALL_BYTES),
        ),
        witnesses=_witnesses(steps, size),
        figures=(_figure(steps, size),),
    )


def _witnesses(steps: Steps, size: Size) -> tuple[Witness, ...]:
    if size is Size.QUICK:
        return ()
    adam = steps.counted(bert_job(ADAM))["state_bytes"]
    return tuple(
        Witness(
            name=f"BERT-large, batch 4: Adam's memory minus that of {SMALLER[optimizer]}",
            published_bytes=(BERT_ADAM - published) * MIB,
            ours_bytes=adam - steps.counted(bert_job(optimizer))["state_bytes"],
            why="nvidia-smi counts whole segments; bitsandbytes keeps small tensors in float32",
            source="huggingface/transformers, docs perf_train_gpu_one.mdx of 2022, V100",
        )
        for optimizer, published in BERT.items()
    )


def _figure(steps: Steps, size: Size) -> Figure:
    rows = []
    for device, own in _grid(size):
        if device != "cpu" or own.batch not in (16, 1024):
            continue
        for optimizer, name in {ADAM: "Adam", **SMALLER}.items():
            parts = steps.parts_at_peak(own.job(optimizer, device))
            rows.append({"panel": f"Batch {own.batch:,}", "optimizer": name, **parts})
    return picture("smaller_states", pd.DataFrame(rows))


EXPERIMENT = claim_experiment("smaller_states", jobs=jobs, judge=judge)
