"""Which images were used, where the peaks lie, and what a first step adds."""

from collections.abc import Iterator, Sequence

from harness.analysis.claim_data import text
from harness.schema.training_run import TrainingRun
from harness.schema.units import format_bytes

from .claims import HELD
from .runs import TRAIN, Run
from .step_peaks import peaks_table

NOTED_EPOCHS, IMAGES = 10, 10_000


def images_text(lines: Sequence[TrainingRun], result: Sequence[Run]) -> Iterator[str]:
    """Say which images were used, and how many a network gets right."""
    first = result[0].steps
    examples = int(first.loc[first["epoch"] == 1].groupby("kind")["rows"].sum()[TRAIN])
    real = {one.model: one for one in result if one.data == "fashion-mnist"}
    ends = {
        model: float(one.epochs["accuracy"].iloc[NOTED_EPOCHS - 1])
        for model, one in real.items()
        if len(one.epochs) >= NOTED_EPOCHS
    }
    if ends:
        words = ", ".join(f"{model} {end:.4f}" for model, end in ends.items())
        yield text(__file__, "sanity", epochs=NOTED_EPOCHS, images=IMAGES, ends=words)
    if not real:
        missing = [one.images_missing for one in lines if one.images_missing is not None]
        why = f"The real images were not there ({missing[-1]})." if missing else "A quick run."
        yield text(__file__, "no_images", why=why, examples=examples)


def peaks_text(traced: Sequence[Run]) -> Iterator[str]:
    """Compare the peak of a full step with the partial batch and with evaluation."""
    kinds = {
        "full": "every later full step",
        "partial": "last, partial batch of an epoch",
        "evaluation": "evaluation of a full batch",
    }
    for one in traced:
        peaks = peaks_table([one]).set_index("step")["highest_peak_bytes"]
        if set(kinds.values()) <= set(peaks.index):
            sizes = {name: format_bytes(int(peaks[kind])) for name, kind in kinds.items()}
            yield text(__file__, "peaks", model=one.model, **sizes)


def first_step_text(resident: Sequence[Run]) -> Iterator[str]:
    """Say what the first step adds to the process that later ones do not."""
    for one in resident:
        rises = one.steps.loc[one.steps["kind"] == TRAIN, "rise_bytes"]
        first, later = int(rises.iloc[0]), rises.iloc[1:]
        if len(later):
            sizes = {"first": first, "later": int(later.median()), "most": int(later.max())}
            words = {name: format_bytes(size) for name, size in sizes.items()}
            holder = HELD[one.device].holder
            yield text(__file__, "first_step", model=one.model, holder=holder, **words)
