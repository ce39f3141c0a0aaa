"""What the training runs say: claims, paragraphs, tables and figures."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from harness.analysis.decisions import CONFIDENCE, Decision, is_above, is_below, share_interval
from harness.schema.findings import Figure, Ruling, Table, Verdict
from harness.schema.plots.series import Marked, series
from harness.schema.plots.stacked import stacked
from harness.schema.training_run import TrainingRun
from harness.schema.units import format_bytes

from . import runs
from .runs import TRAIN, Run

NOTED_ACCURACY = 0.83
NOTED_EPOCHS = 10
LEAK_BYTES = 256
"""Growth per step that counts as a leak: less than most tensors that are kept by mistake."""


@dataclass(frozen=True, kw_only=True)
class _Held:
    """What a run holds, in words."""

    title: str
    holder: str
    sentence: str
    note: str


_HELD = {
    "cpu": _Held(
        title="RSS",
        holder="the RSS of the process",
        sentence=f"The process does not leak while it trains (less than {LEAK_BYTES} bytes a "
        "step).",
        note="One page is 4 KiB. RSS contains the interpreter's own heap and what the instrument "
        "needs.",
    ),
    "cuda": _Held(
        title="Reserved GPU memory",
        holder="the reserved GPU memory",
        sentence="What a run reserves on the GPU does not grow while it trains (less than "
        f"{LEAK_BYTES} bytes a step).",
        note="The caching allocator reserves whole segments of at least 2 MiB.",
    ),
}


def _all(decisions: Sequence[Decision]) -> Decision:
    """Return the decision on "each of them": the first that refutes, else the first left open."""
    for ruling in (Ruling.REFUTED, Ruling.OPEN):
        for one in decisions:
            if one.ruling is ruling:
                return one
    return decisions[0]


def accuracy(found: Sequence[Run]) -> list[Verdict]:
    """Rule on the accuracy after the note's ten epochs, on the real images."""
    at = NOTED_EPOCHS
    ends = {
        one.model: float(one.epochs["accuracy"].iloc[at - 1])
        for one in found
        if one.data == "fashion-mnist" and len(one.epochs) >= at
    }
    decision = Decision(ruling=Ruling.OPEN)
    why = f"the runs are shorter than {at} epochs"
    words = f"The runs were shorter than {at} epochs."
    if max(len(one.epochs) for one in found) >= at:
        why = "no images here; harness doctor says how to get them"
        words = "The real images were not available."
    if ends:
        images = 10_000
        decisions = []
        for end in ends.values():
            low, high = share_interval(round(end * images), images)
            decisions.append(is_above(NOTED_ACCURACY, low=low, high=high, repeats=1))
        decision = _all(decisions)
        numbers = ", ".join(f"{model} {end:.4f}" for model, end in ends.items())
        words = f"Validation accuracy after {at} epochs, on {images:,} images: {numbers}."
        words += decision.words("runs with other seeds")
        why = decision.reason("seeds")
    return [
        Verdict(
            sentence="The note's network, trained as the note says, learns Fashion-MNIST (more "
            f"than {NOTED_ACCURACY:.0%} of the validation images correct after 10 epochs).",
            headline="The note's network learns Fashion-MNIST",
            ruling=decision.ruling,
            open_reason=why,
            measured=words,
            number=", ".join(f"{end:.4f}" for end in ends.values()) or "none",
        )
    ]


def equal_steps(traced: Sequence[Run]) -> list[Verdict]:
    """Rule on every full step's peak and on what is alive after every step, exactly."""
    found = {one.model: runs.flatness(one) for one in traced if len(one.later_full_steps)}
    if not found:
        return []
    words = "; ".join(
        f"{model}: {_values(one.peaks)} at the peak of each of {one.steps:,} full steps, "
        f"{_values(one.ends)} alive after each step"
        for model, one in found.items()
    )
    flat = all(one.flat for one in found.values())
    grown = max(one.growth_bytes for one in found.values())
    return [
        Verdict(
            sentence="From the second on, every full step of a training run takes the same memory "
            "and leaves nothing behind.",
            headline="Every full training step takes the same memory",
            ruling=Ruling.SUPPORTED if flat else Ruling.REFUTED,
            measured=f"Live bytes, traced from before the network was built: {words}. From the "
            f"first step to the last, live bytes grow by {grown:,} bytes. This is equality, not "
            "an estimate.",
            number=f"slope {'exactly 0' if flat else 'not 0'}; growth {grown:,} bytes",
        )
    ]


def _values(values: Sequence[int]) -> str:
    if len(values) == 1:
        return f"{values[0]:,} bytes"
    return f"{len(values)} values from {values[0]:,} to {values[-1]:,} bytes"


def order(orders: pd.DataFrame) -> list[Verdict]:
    """Rule on what it costs to free the gradients only after the forward pass."""
    costs = {str(model): _cost(part) for model, part in orders.groupby("model", sort=False)}
    if not costs:
        return []
    more = [cost for cost, _ in costs.values()]
    some = Ruling.LIMITED if max(more) > 0 else Ruling.REFUTED
    return [
        Verdict(
            sentence="Freeing the gradients only after the forward pass, as the note's trainer "
            "does, raises the peak of a training step.",
            headline="zero_grad after the forward pass raises the peak",
            ruling=Ruling.SUPPORTED if min(more) > 0 else some,
            measured=" ".join(f"{model}: {words}." for model, (_, words) in costs.items())
            + " The old gradients are then alive next to the new activations.",
            number="; ".join(f"{model} {cost:+,} bytes" for model, (cost, _) in costs.items()),
        )
    ]


def _cost(part: pd.DataFrame) -> tuple[int, str]:
    """Return what the note's order adds to the peak, and both peaks with their phases."""
    note, usual = part.to_dict("records")
    cost = int(note["peak_bytes"]) - int(usual["peak_bytes"])
    words = (
        f"{note['peak_bytes']:,} bytes at the peak, in the {note['peak_phase']} pass, against "
        f"{usual['peak_bytes']:,} bytes in the {usual['peak_phase']} pass when they are freed "
        f"before it ({100 * cost / usual['peak_bytes']:+.2g}%)"
    )
    return cost, words


def order_text(orders: pd.DataFrame) -> list[str]:
    """Say how to save what the note's order costs, or that it was not run."""
    if orders.empty:
        return ["These records do not hold both orders of zero_grad; the runs use one of them."]
    text = (
        "All other claims of this section are about the note's order. Calling zero_grad before "
        "the forward pass trains the same network without that cost."
    )
    return [text]


def growth(resident: Sequence[Run]) -> list[Verdict]:
    """Rule on the growth of what the process holds, step by step."""
    slopes = {one.model: runs.resident_slope(one) for one in resident}
    known = {model: slope for model, slope in slopes.items() if slope is not None}
    if not known:
        return []
    what = _HELD[resident[0].device]
    decisions, words = [], []
    for model, slope in known.items():
        low, high = slope.interval(CONFIDENCE)
        decisions.append(is_below(LEAK_BYTES, low=low, high=high, repeats=slope.epochs, rate=1.5))
        words.append(
            f"{model} {slope.estimate:+.3g} bytes a step, 99% interval {low:+.3g} to {high:+.3g}, "
            f"which is {slope.grown_bytes / 1024:+.3g} KiB over {slope.epochs} epochs of "
            f"{slope.steps_per_epoch} steps"
        )
    decision = _all(decisions)
    return [
        Verdict(
            sentence=what.sentence,
            headline="A training run does not leak",
            ruling=decision.ruling,
            open_reason=decision.reason("epochs"),
            measured=f"{what.title} against the step, from the second epoch on: "
            f"{'; '.join(words)}. A batch that is never freed would add 786 KiB a step. "
            f"{what.note}{decision.words('epochs')}",
            number="; ".join(f"{slope.estimate:+.3g} bytes a step" for slope in known.values()),
        )
    ]


def images_text(lines: Sequence[TrainingRun], found: Sequence[Run]) -> list[str]:
    """Say which images were used, and how to get the real ones where they are missing."""
    first = found[0].steps
    examples = int(first.loc[first["epoch"] == 1].groupby("kind")["rows"].sum()[TRAIN])
    if any(one.data == "fashion-mnist" for one in found):
        return [f"The images are real: {examples:,} of Fashion-MNIST's 60,000 in each epoch."]
    missing = [one.images_missing for one in lines if one.images_missing is not None]
    why = f"The real images were not there ({missing[-1]})." if missing else "This is a quick run."
    text = (
        f"{why} Synthetic images of the same shape were used, {examples:,} in each epoch. Memory "
        "is the same; accuracy means nothing."
    )
    return [text]


def peaks_text(traced: Sequence[Run]) -> list[str]:
    """Compare the peak of a full step with the partial batch and with evaluation."""
    text = []
    for one in traced:
        table = runs.peaks_table([one]).set_index("step")["highest_peak_bytes"]
        peaks = {str(name): int(size) for name, size in table.items()}
        full = peaks.get("every later full step")
        evaluation = peaks.get("evaluation of a full batch")
        if full is None or evaluation is None:
            continue
        words = f"{one.model}: a full step peaks at {format_bytes(full)}"
        partial = peaks.get("last, partial batch of an epoch")
        if partial is not None:
            words += f", the partial batch at {format_bytes(partial)}"
        words += f", the evaluation of a full batch at {format_bytes(evaluation)}"
        if evaluation > full:
            words += (
                ". Evaluation needs more than training because the gradients of the last step "
                "still exist while an activation's input and output are alive at once"
            )
        text.append(words + ".")
    return text


def first_step_text(resident: Sequence[Run]) -> list[str]:
    """Say what the first step adds to the process that later ones do not."""
    text = []
    for one in resident:
        trained = one.steps[one.steps["kind"] == TRAIN]
        first, later = int(trained["rise_bytes"].iloc[0]), trained["rise_bytes"].iloc[1:]
        if later.empty:
            continue
        text.append(
            f"{one.model}: the first step raises {_HELD[one.device].holder} by "
            f"{format_bytes(first)}, later steps by {format_bytes(int(later.median()))} (median) "
            f"and {format_bytes(int(later.max()))} at most. Gradients and the libraries' buffers "
            "are allocated once."
        )
    return text


def same_network_text(found: Sequence[Run]) -> list[str]:
    """Compare the accuracies under both instruments: equal seeds must give equal networks."""
    both = {}
    for model in sorted({one.model for one in found}):
        own = [one.epochs["accuracy"].tolist() for one in found if one.model == model]
        if len(own) == 2:
            both[model] = all(a == b for a, b in zip(*own, strict=False))
    if not both:
        return []
    words = ", ".join(f"{model} {'equal' if same else 'different'}" for model, same in both.items())
    return [f"Validation accuracies under the two instruments, epoch by epoch: {words}."]


def tables(
    found: Sequence[Run], traced: Sequence[Run], resident: Sequence[Run], orders: pd.DataFrame
) -> tuple[Table, ...]:
    """Return epochs, peaks by kind of step, both orders of zero_grad, and growth."""
    epochs = pd.concat(
        [one.epochs.assign(model=one.model, instrument=one.instrument) for one in found],
        ignore_index=True,
    )
    slopes = [(one.model, slope) for one in resident if (slope := runs.resident_slope(one))]
    growths = pd.DataFrame(
        [(model, one.estimate, *one.interval(CONFIDENCE), one.epochs) for model, one in slopes],
        columns=["model", "slope", "low", "high", "epochs"],
    )
    every = {
        "epochs": (
            "Validation accuracy and time of each epoch",
            epochs[["model", "instrument", "epoch", "accuracy", "seconds"]],
        ),
        "steps": (
            "Peak live bytes by kind of step, over the traced epochs",
            runs.peaks_table(traced),
        ),
        "orders": ("Peak of a full step by when the old gradients are freed", orders),
        "growth": ("Growth of RSS in bytes per training step (99% intervals, HC3)", growths),
    }
    return tuple(
        Table(name=name, caption=caption, frame=frame)
        for name, (caption, frame) in every.items()
        if len(frame)
    )


def accuracy_figure(found: Sequence[Run]) -> list[Figure]:
    """Return validation accuracy against the epoch, on the real images."""
    real = [one for one in found if one.data == "fashion-mnist"]
    kept = {one.model: one for one in sorted(real, key=lambda one: len(one.epochs))}
    if not kept:
        return []
    data = pd.concat(
        [one.epochs[["epoch", "accuracy"]].assign(model=model) for model, one in kept.items()],
        ignore_index=True,
    )
    return [
        Figure(
            name="accuracy",
            caption="Validation accuracy after each epoch; the dashed line is the "
            f"{NOTED_ACCURACY} that the note's network should pass. From one epoch to the "
            "next it changes by a percent or two, so another seed or machine ends elsewhere.",
            data=data[["model", "epoch", "accuracy"]],
            draw=functools.partial(
                series,
                x="epoch",
                y="accuracy",
                line="model",
                label="validation accuracy",
                scale="ratio",
                x_doublings=False,
                y_from=None,
                marked=Marked(value=NOTED_ACCURACY, text=f"the note's {NOTED_ACCURACY}"),
            ),
            size=(7.0, 3.8),
        )
    ]


def peaks_figure(traced: Sequence[Run]) -> list[Figure]:
    """Return what is alive at the peaks of four kinds of step."""
    rows = [
        {"panel": one.model, "label": name, **sizes}
        for one in traced
        for name, sizes in one.categories.items()
    ]
    if not rows:
        return []
    return [
        Figure(
            name="peaks",
            caption="What is alive at the peak of the first step, of a later one, of the partial "
            "batch and of an evaluated batch. Evaluation runs while the gradients of the last "
            "step still exist.",
            data=pd.DataFrame(rows),
            draw=functools.partial(stacked, panel="panel", bar="label"),
            size=(8.6, 2.6),
        )
    ]
