"""The note's own run: Fashion-MNIST, 784 -> 256 -> 10, batch 256, learning rate 0.1, 10 epochs.

One step says what a step needs; this says that it stays so. Both of the note's networks are
trained in processes of their own, twice: once with the process's size read around every step,
once with every block followed that the allocator hands out. The last batch of an epoch is
smaller (60,000 = 234 * 256 + 96), and each epoch ends with an evaluation.
"""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from harness.reporting.plots.series import Marked, series
from harness.reporting.plots.stacked import stacked
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Figure, Ruling, Section, Table, Verdict
from harness.schema.training_run import Instrument, TrainingJob, TrainingPlan, TrainingRun
from harness.schema.units import format_bytes
from harness.schema.workload import Workload

from . import runs as analysis
from .runs import TRAIN, Run

NOTED_ACCURACY = 0.83
NOTED_EPOCHS = 10
MODELS = ("mlp", "mlp-scratch")
INSTRUMENTS: tuple[Instrument, ...] = ("resident", "trace")
EPOCHS: dict[Size, dict[Instrument, int]] = {
    Size.QUICK: {"resident": 2, "trace": 2},
    Size.DEFAULT: {"resident": 10, "trace": 3},
    Size.FULL: {"resident": 20, "trace": 10},
}
"""By instrument: exact figures need no repetition to be believed, a process's size does."""
ALL_IMAGES = (60_000, 10_000)
FEW_IMAGES = (5 * 256 + 96, 2 * 256 + 16)
"""Training and validation images; an epoch of either ends in a partial batch."""


def cells(size: Size) -> Iterable[Workload]:  # noqa: ARG001  # the same at every size
    """Return one step of each network."""
    return [Workload(model=model) for model in MODELS]


def training_runs(size: Size) -> Iterable[TrainingJob]:
    """Return one run per network and instrument; the quick form needs no real images."""
    quick = size is Size.QUICK
    examples, validation = FEW_IMAGES if quick else ALL_IMAGES
    for model in MODELS:
        workload = Workload(model=model, data="synthetic" if quick else "fashion-mnist")
        for name in INSTRUMENTS:
            plan = TrainingPlan(
                instrument=name,
                epochs=EPOCHS[size][name],
                examples=examples,
                validation=validation,
            )
            yield TrainingJob(workload=workload, plan=plan)


def analyse(evidence: Evidence) -> Section:
    """Rule on accuracy, on sameness of the steps, and on growth."""
    found = analysis.read_training_runs(evidence.folder)
    runs = analysis.runs(found)
    traced = [one for one in runs if one.instrument == "trace"]
    resident = [one for one in runs if one.instrument == "resident"]
    return Section(
        verdicts=(*_accurate(runs), *_same(traced), *_steady(resident)),
        text=(
            *_images_text(found, runs),
            *_passages_text(traced),
            *_first_text(resident),
            *_undisturbed_text(runs),
        ),
        tables=_tables(runs, traced, resident),
        figures=(*_accuracy_figure(runs), *_parts_figure(traced)),
    )


def _accurate(runs: Sequence[Run]) -> list[Verdict]:
    """Rule on the end accuracy, where the real images were there for the note's ten epochs."""
    judged = [
        one for one in runs if one.data == "fashion-mnist" and len(one.epochs) >= NOTED_EPOCHS
    ]
    at = NOTED_EPOCHS
    ends = {one.model: float(one.epochs["accuracy"].iloc[at - 1]) for one in judged}
    ruling = Ruling.OPEN
    words = "There were no real images, or fewer than ten epochs of all of them."
    if ends:
        above = [end > NOTED_ACCURACY for end in ends.values()]
        some = Ruling.LIMITED if any(above) else Ruling.REFUTED
        ruling = Ruling.SUPPORTED if all(above) else some
        numbers = ", ".join(f"{model} {end:.4f}" for model, end in ends.items())
        words = f"Validation accuracy after {at} epochs: {numbers}."
    return [
        Verdict(
            sentence="The note's network, trained as the note says, learns Fashion-MNIST (more "
            f"than {NOTED_ACCURACY:.0%} of the validation images right after 10 epochs).".replace(
                "%", " %"
            ),
            ruling=ruling,
            measured=words,
            number=", ".join(f"{end:.4f}" for end in ends.values()) or "none",
        )
    ]


def _same(traced: Sequence[Run]) -> list[Verdict]:
    """Rule on every full step's peak and on what is alive after every step, exactly."""
    if not traced:
        return []
    found = {one.model: analysis.flatness(one) for one in traced}
    words = "; ".join(
        f"{model}: {_values(one.peaks)} at the peak of each of {one.steps:,} full steps, "
        f"{_values(one.ends)} alive after each step"
        for model, one in found.items()
    )
    flat = all(one.flat for one in found.values())
    grown = max(one.growth_bytes for one in found.values())
    return [
        Verdict(
            sentence="Every full step of a training run takes the same memory, and leaves nothing "
            "behind.",
            ruling=Ruling.SUPPORTED if flat else Ruling.REFUTED,
            measured=f"By the allocator, from before the network was built: {words}. From "
            f"the first step to the last, what is alive grows by {grown:,} bytes: "
            "equality, not an estimate.",
            number=f"slope {'exactly 0' if flat else 'not 0'}; growth {grown:,} bytes",
        )
    ]


def _values(values: Sequence[int]) -> str:
    if len(values) == 1:
        return f"{values[0]:,} bytes"
    return f"{len(values)} values from {values[0]:,} to {values[-1]:,} bytes"


def _steady(resident: Sequence[Run]) -> list[Verdict]:
    """Rule on the growth of the process: none shown, or too little to matter, or a leak."""
    slopes = {one.model: analysis.resident_slope(one) for one in resident}
    known = {model: slope for model, slope in slopes.items() if slope is not None}
    if not known:
        return []
    grown = [slope.low > 0 for slope in known.values()]
    leaking = [slope.low > LEAK_BYTES for slope in known.values()]
    little = Ruling.LIMITED if not any(leaking) else Ruling.REFUTED
    words = "; ".join(
        f"{model} {slope.estimate:+.3g} bytes a step, 95 % interval {slope.low:+.3g} to "
        f"{slope.high:+.3g}, or {slope.grown_bytes / 1024:+.3g} KiB over {slope.epochs} epochs of "
        f"{slope.steps_per_epoch} steps"
        for model, slope in known.items()
    )
    what = _HELD[resident[0].device]
    return [
        Verdict(
            sentence=what.sentence,
            ruling=Ruling.SUPPORTED if not any(grown) else little,
            measured=f"{what.title} against the step from the second epoch on: {words}. A leaked "
            f"batch would be 786 KiB a step. {what.note}",
            number="; ".join(f"{slope.estimate:+.3g} bytes a step" for slope in known.values()),
        )
    ]


@dataclass(frozen=True, kw_only=True)
class _Held:
    """What a run holds, in words."""

    title: str
    holder: str
    sentence: str
    note: str


_HELD = {
    "cpu": _Held(
        title="Resident size",
        holder="the process",
        sentence="The process does not grow while it trains.",
        note="One page is 4 KiB. The interpreter's own heap is in it, and so is what the watching "
        "takes.",
    ),
    "cuda": _Held(
        title="Reserved bytes of the GPU",
        holder="what is reserved of the GPU",
        sentence="What a run reserves of the GPU does not grow while it trains.",
        note="The caching allocator reserves whole segments, of 2 MiB at least.",
    ),
}

LEAK_BYTES = 256
"""Growth a step above which a process is said to leak: smaller than any tensor kept by mistake."""


def _images_text(found: Sequence[TrainingRun], runs: Sequence[Run]) -> list[str]:
    """Say which images were used, and why not the real ones where they were not."""
    missing = [one.images_missing for one in found if one.images_missing is not None]
    examples = int(
        runs[0].steps.loc[runs[0].steps["epoch"] == 1].groupby("kind")["rows"].sum()[TRAIN]
    )
    if any(one.data == "fashion-mnist" for one in runs):
        return [f"The images are the real ones: {examples:,} of Fashion-MNIST's 60,000 an epoch."]
    why = (
        f"The real images were not there ({missing[-1]})." if missing else "This is the quick form."
    )
    text = (
        f"{why} Random images of the same shape were trained on, {examples:,} an epoch: memory is "
        "the same, accuracy says nothing."
    )
    return [text]


def _passages_text(traced: Sequence[Run]) -> list[str]:
    text = []
    for one in traced:
        table = analysis.passages_table([one]).set_index("passage")["highest_peak_bytes"]
        peaks = {str(name): int(size) for name, size in table.items()}
        full = peaks.get("every later full step")
        evaluation = peaks.get("evaluation of a full batch")
        if full is None or evaluation is None:
            continue
        words = f"{one.model}: a full step peaks at {format_bytes(full)}"
        partial = peaks.get("last, partial batch of an epoch")
        if partial is not None:
            words += f", the partial one at {format_bytes(partial)}"
        words += f", the evaluation of a full batch at {format_bytes(evaluation)}"
        if evaluation > full:
            words += (
                ": more than training, since the gradients of the last step are still there and "
                "the input and the output of the activation are alive at once"
            )
        text.append(words + ".")
    return text


def _first_text(resident: Sequence[Run]) -> list[str]:
    """Say what the first step adds to the process that later ones do not."""
    text = []
    for one in resident:
        trained = one.steps[one.steps["kind"] == TRAIN]
        first, later = int(trained["rise_bytes"].iloc[0]), trained["rise_bytes"].iloc[1:]
        if later.empty:
            continue
        text.append(
            f"{one.model}: the first step raises {_HELD[one.device].holder} by "
            f"{format_bytes(first)}, any later "
            f"one by {format_bytes(int(later.median()))} (median) and "
            f"{format_bytes(int(later.max()))} at most: gradients come into being, and libraries "
            "take their buffers, once."
        )
    return text


def _undisturbed_text(runs: Sequence[Run]) -> list[str]:
    """Compare the accuracies under both instruments: the same seed must give the same network."""
    both = {}
    for model in MODELS:
        own = [one.epochs["accuracy"].tolist() for one in runs if one.model == model]
        if len(own) == len(INSTRUMENTS):
            both[model] = all(a == b for a, b in zip(*own, strict=False))
    if not both:
        return []
    words = ", ".join(f"{model} {'equal' if same else 'different'}" for model, same in both.items())
    return [f"Validation accuracies under the two instruments, epoch by epoch: {words}."]


def _tables(
    runs: Sequence[Run], traced: Sequence[Run], resident: Sequence[Run]
) -> tuple[Table, ...]:
    epochs = pd.concat(
        [one.epochs.assign(model=one.model, instrument=one.instrument) for one in runs],
        ignore_index=True,
    )
    tables = [
        Table(
            name="epochs",
            caption="Validation accuracy and time of each epoch",
            frame=epochs[["model", "instrument", "epoch", "accuracy", "seconds"]],
        )
    ]
    if traced:
        tables.append(
            Table(
                name="passages",
                caption="Peaks by the kind of passage, over the traced epochs",
                frame=analysis.passages_table(traced),
            )
        )
    slopes = [(one.model, slope) for one in resident if (slope := analysis.resident_slope(one))]
    if slopes:
        tables.append(
            Table(
                name="growth",
                caption="Growth of what is held, bytes a training step (95 % intervals, HC3)",
                frame=pd.DataFrame(
                    [
                        (model, slope.estimate, slope.low, slope.high, slope.epochs)
                        for model, slope in slopes
                    ],
                    columns=["model", "slope", "low", "high", "epochs"],
                ),
            )
        )
    return tuple(tables)


def _accuracy_figure(runs: Sequence[Run]) -> list[Figure]:
    real = [one for one in runs if one.data == "fashion-mnist"]
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
            "next it moves by a per cent or two, so another seed or machine ends elsewhere.",
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


def _parts_figure(traced: Sequence[Run]) -> list[Figure]:
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
            "batch and of an evaluated batch. In evaluation the last step's gradients are still "
            "there. A step of the scratch network peaks before its gradients exist: the maximum by "
            "hand keeps three tensors for backward.",
            data=pd.DataFrame(rows),
            draw=functools.partial(stacked, panel="panel", bar="label"),
            size=(8.6, 2.6),
        )
    ]


EXPERIMENT = Experiment(
    order=110,
    title="A whole training run",
    question="Does the note's network learn, and is its memory the same from the first step to "
    "the last?",
    analyse=analyse,
    cells=cells,
    training_runs=training_runs,
    repeats=1,
)
