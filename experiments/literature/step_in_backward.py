"""Lv et al. 2023 (LOMO): an optimizer step inside the backward pass removes the gradients.

With LOMO, only one layer's gradients are alive at a time. How much memory LOMO saves depends on
when the peak occurs. If the peak is at the end of the backward pass, LOMO lowers the peak by the
bytes of all gradients except the largest layer's. If the peak is at the beginning of the backward
pass, LOMO does not lower the peak, because gradients are not yet alive.
"""

from collections.abc import Iterable

import pandas as pd

from harness.analysis.decisions import ROUGHLY
from harness.analysis.step_runs import Steps
from harness.schema.experiment import Size
from harness.schema.findings import Check, Figure, Judgement, Witness
from harness.schema.traced_run import StepJob

from .judgements import at, by_law, claim_experiment, counting, decided_by, over
from .mlp_peaks import COUNTER_BYTES, Mlp
from .pictures import picture

DEPTH, WIDTH = 8, 512
SGD = ("sgd", ".small_states:sgd_in_backward")
ADAM = (".small_states:adam_loop", ".small_states:adam_in_backward")
NAMES = {SGD: "SGD", ADAM: "Adam"}
GRIDS = {
    Size.QUICK: (("cpu",), (SGD,), (16, 1024)),
    Size.DEFAULT: (("cpu", "cuda"), (SGD, ADAM), (16, 256, 1024)),
}
VIT = {False: 6_000_000_000, True: 4_000_000_000}
"""Published peaks of ViT-L/16 with Adam, in bytes; True means a step inside the backward pass."""

ROUNDED_BYTES = 500_000_000
"""Largest rounding error of the published peaks, which are whole gigabytes."""


def vit_job(fused: bool) -> StepJob:
    """Return the job that runs the training step of PyTorch's tutorial."""
    return counting(".vision_transformer:step_peak", fused=fused)


def _grid(size: Size) -> Iterable[tuple[str, tuple[str, str], Mlp]]:
    devices, optimizers, batches = at(GRIDS, size)
    for device in devices:
        for pair in optimizers:
            for batch in batches:
                yield device, pair, Mlp(depth=DEPTH, width=WIDTH, batch=batch)


def jobs(size: Size) -> Iterable[StepJob]:
    """Yield steps of each optimizer with updates after and inside the backward pass."""
    for device, pair, own in _grid(size):
        for optimizer in pair:
            yield own.job(optimizer, device)
    if size is not Size.QUICK:
        yield from map(vit_job, VIT)


def peak_by_law(own: Mlp, adam: bool, fused: bool, device: str) -> int:
    """Return the calculated peak, the maximum over the backward pass and Adam's updates.

    Adam's update of a weight needs two temporary tensors of the weight's size.
    """
    weights = [4 * rows * columns for rows, columns in own.shapes]
    base = own.parameter_bytes + own.input_bytes + (own.adam_bytes(device) if adam else 0)
    highest = own.backward_peak("updated" if fused else "dropped", device)
    if adam and fused:
        before = (layer + bool(layer) for layer in range(len(weights)))
        pairs = zip(before, weights, strict=True)
        highest = max(highest, *(n * own.hidden_bytes + 3 * weight for n, weight in pairs))
    elif adam:
        highest = max(highest, own.parameter_bytes + 2 * max(weights))
    return base + highest


def peaks(steps: Steps, size: Size) -> pd.DataFrame:
    """Return a row per pair of steps, with the peak of each step and the reduction of the peak."""
    rows = []
    for device, pair, own in _grid(size):
        own_jobs = [own.job(optimizer, device) for optimizer in pair]
        after, inside = map(steps.peak_bytes, own_jobs)
        phases = (str(steps.metrics(one).peak_phase) for one in own_jobs)
        rows.append(
            {
                "device": device,
                "optimizer": NAMES[pair],
                "batch": own.batch,
                "after_bytes": after,
                "inside_bytes": inside,
                "after_law_bytes": peak_by_law(own, pair is ADAM, False, device),
                "inside_law_bytes": peak_by_law(own, pair is ADAM, True, device),
                "saved": (after - inside) / own.parameter_bytes,
                "left": over(inside, after),
                "phases": _move(*phases),
            }
        )
    return pd.DataFrame(rows)


def _move(after: str, inside: str) -> str:
    """Return text that states whether LOMO moves the peak to another phase."""
    if after == inside:
        return f"stays in the {after} phase"
    return f"moves from the {after} phase to the {inside} phase"


def judge(steps: Steps, size: Size) -> Judgement:
    """Judge case by case whether an optimizer step inside the backward pass lowers the peak."""
    table = peaks(steps, size).sort_values("batch", kind="stable")
    cases = table.assign(holds=table["left"] < 1 - ROUGHLY)
    low, high = 100 * table["saved"].min(), 100 * table["saved"].max()
    witnesses = _witnesses(steps, size)
    return Judgement(
        **decided_by(cases, ["batch", "optimizer", "device"]),
        number=f"{table['left'].min():.2f} to {table['left'].max():.2f} of the peak is left",
        measured=f"The peak falls by more than 10% in {cases['holds'].sum()} of {len(cases)} pairs "
        f"of steps. The peak falls by {low:.1f}% to {high:.0f}% of the gradients' bytes. If the "
        f"step moves into the backward pass, the peak {' or '.join(sorted(set(table['phases'])))}.",
        checks=(
            *by_law(
                table,
                {
                    "after": "peak with the step after the backward pass",
                    "inside": "peak with the step inside the backward pass",
                },
                allowed=COUNTER_BYTES,
            ),
            *(
                Check(
                    name=one.name,
                    value=one.ours_bytes,
                    second=one.published_bytes,
                    second_from="real GPU, rounded to gigabytes",
                    allowed=ROUNDED_BYTES,
                )
                for one in witnesses
            ),
        ),
        witnesses=witnesses,
        figures=(_figure(steps, size),),
    )


def _witnesses(steps: Steps, size: Size) -> tuple[Witness, ...]:
    if size is Size.QUICK:
        return ()
    return tuple(
        Witness(
            name=f"ViT-L/16, one image, Adam{', stepping in the backward pass' if fused else ''}",
            published_bytes=published,
            ours_bytes=steps.counted(vit_job(fused))["peak_bytes"],
            why="the tutorial rounds to gigabytes",
            source="pytorch/tutorials, optimizer_step_in_backward_tutorial.py (memory snapshot)",
        )
        for fused, published in VIT.items()
    )


def _figure(steps: Steps, size: Size) -> Figure:
    rows = []
    places = [one for one in _grid(size) if one[0] == "cpu"]
    batches = (places[0][2].batch, places[-1][2].batch)
    for device, pair, own in sorted(places, key=lambda place: place[2].batch):
        if own.batch not in batches:
            continue
        for optimizer, where in zip(pair, ("after", "inside"), strict=True):
            parts = steps.parts_at_peak(own.job(optimizer, device))
            step = f"{NAMES[pair]}, {where}"
            rows.append({"panel": f"Batch {own.batch:,}", "step": step, **parts})
    return picture("step_in_backward", pd.DataFrame(rows))


EXPERIMENT = claim_experiment("step_in_backward", jobs=jobs, judge=judge)
