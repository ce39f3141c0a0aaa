"""Which images were used, where the peaks lie, and what a first step adds."""

from collections.abc import Sequence

import pandas as pd

from harness.schema.training_run import TrainingRun
from harness.schema.units import format_bytes

from .claims import HELD
from .runs import TRAIN, Run
from .step_peaks import peaks_table


def order_text(orders: pd.DataFrame) -> list[str]:
    """Say how to save what the note's order costs, or that it was not run."""
    if orders.empty:
        return ["The runs use only one of the two orders of zero_grad."]
    text = (
        "All other claims of this section are about the note's order. If you call zero_grad "
        "before the forward pass, the same network is trained without that cost."
    )
    return [text]


def images_text(lines: Sequence[TrainingRun], result: Sequence[Run]) -> list[str]:
    """Say which images were used, and how to get the real ones where they are missing."""
    first = result[0].steps
    examples = int(first.loc[first["epoch"] == 1].groupby("kind")["rows"].sum()[TRAIN])
    if any(one.data == "fashion-mnist" for one in result):
        return [f"Each epoch uses {examples:,} of the 60,000 real images of Fashion-MNIST."]
    missing = [one.images_missing for one in lines if one.images_missing is not None]
    why = f"The real images were not there ({missing[-1]})." if missing else "This is a quick run."
    text = (
        f"{why} Each epoch uses {examples:,} synthetic images of the same shape. They need the "
        "same memory, but the accuracy means nothing."
    )
    return [text]


def peaks_text(traced: Sequence[Run]) -> list[str]:
    """Compare the peak of a full step with the partial batch and with evaluation."""
    text = []
    for one in traced:
        table = peaks_table([one]).set_index("step")["highest_peak_bytes"]
        peaks = {str(name): int(size) for name, size in table.items()}
        full = peaks.get("every later full step")
        evaluation = peaks.get("evaluation of a full batch")
        if full is None or evaluation is None:
            continue
        words = f"For {one.model}, a full step peaks at {format_bytes(full)}"
        partial = peaks.get("last, partial batch of an epoch")
        if partial is not None:
            words += f", the partial batch peaks at {format_bytes(partial)}"
        words += f", and the evaluation of a full batch peaks at {format_bytes(evaluation)}"
        if evaluation > full:
            words += (
                ". Evaluation needs more than training, because the gradients of the last step "
                "still exist, and a layer's input and output are alive at once"
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
            f"For {one.model}, the first step raises {HELD[one.device].holder} by "
            f"{format_bytes(first)}, because gradients and the buffers of libraries are allocated "
            f"once. Later steps raise it by {format_bytes(int(later.median()))} (median) and by "
            f"at most {format_bytes(int(later.max()))}."
        )
    return text


def same_network_text(result: Sequence[Run]) -> list[str]:
    """Compare the accuracies under both instruments: equal seeds must give equal networks."""
    both = {}
    for model in sorted({one.model for one in result}):
        own = [one.epochs["accuracy"].tolist() for one in result if one.model == model]
        if len(own) == 2:
            both[model] = all(a == b for a, b in zip(*own, strict=False))
    if not both:
        return []
    words = ", ".join(f"{model} {'equal' if same else 'different'}" for model, same in both.items())
    return [f"The validation accuracies of each epoch under the two instruments are {words}."]
