"""Writes the texts about the images of the runs and the accuracy of the networks."""

from collections.abc import Iterator, Sequence

from harness.analysis.claim_data import text
from harness.schema.training_run import TrainingRun

from .runs import TRAIN, Run

NOTED_EPOCHS, IMAGES = 10, 10_000


def images_text(lines: Sequence[TrainingRun], result: Sequence[Run]) -> Iterator[str]:
    """Yield the texts about the images of the runs and the accuracy of the networks."""
    first = result[0].steps
    examples = int(first.loc[first["epoch"] == 1].groupby("kind")["rows"].sum()[TRAIN])
    real = {one.model: one for one in result if one.data == "fashion-mnist"}
    ends = {
        model: float(one.epochs["accuracy"].iloc[NOTED_EPOCHS - 1])
        for model, one in real.items()
        if len(one.epochs) >= NOTED_EPOCHS
    }
    if ends:
        words = " and ".join(f"{end:.4f} ({model})" for model, end in ends.items())
        yield text(__file__, "sanity", epochs=NOTED_EPOCHS, images=IMAGES, ends=words)
    if not real:
        missing = [one.images_missing for one in lines if one.images_missing is not None]
        why = (
            f"The real images were not found ({missing[-1]})."
            if missing
            else "This is a quick run."
        )
        yield text(__file__, "no_images", why=why, examples=examples)
