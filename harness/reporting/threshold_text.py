"""A threshold as text on a terminal."""

from harness.plots.shown_tables import sizes_table
from harness.reporting.terminal import AnswerConsole
from harness.schema.step_threshold import StepThreshold
from harness.schema.threshold import FoundThreshold, Threshold
from harness.schema.units import format_bytes

_HEADROOM = {
    "live_bytes": "live bytes at the peak",
    "rounding_bytes": "block headers and alignment",
    "small_bytes": "blocks smaller than a page, from memory that was there before",
    "library_bytes": "libraries: code, buffers and growth of the heap",
    "unused_bytes": "unused",
}


def print_threshold(threshold: FoundThreshold) -> None:
    """Print a threshold: the answer, the prediction, where the budget goes, every probe."""
    console = AnswerConsole()
    solve = threshold.solve
    console.say(threshold.answer, "bold")
    console.say(threshold.question)
    for text, value in (
        ("predicted", threshold.predicted),
        ("predicted from live bytes alone", threshold.live_bytes_predict),
    ):
        if value is not None or isinstance(threshold, Threshold):
            console.say(f"{text}: {'no prediction' if value is None else f'{solve} {value:,}'}")
    if isinstance(threshold, StepThreshold):
        console.say_all(threshold.notes)
    if isinstance(threshold, Threshold) and threshold.outside:
        console.say(threshold.outside)
    console.say_all((f"{key}: {fact}" for key, fact in threshold.evidence.items()), before="")
    rows = [
        (
            f"{probe.value:,}",
            str(probe.outcome),
            probe.phase or "",
            "" if probe.needed_bytes is None else format_bytes(probe.needed_bytes),
            f"{probe.seconds:.2f}",
        )
        for probe in threshold.probes
    ]
    console.table((f"probed {solve}", "outcome", "phase", "needed", "seconds"), rows)
    if isinstance(threshold, Threshold) and threshold.headroom is not None:
        parts = [(label, getattr(threshold.headroom, name)) for name, label in _HEADROOM.items()]
        head = f"the budget at {solve} {threshold.largest_fit:,}"
        console.show(sizes_table("", parts, head))
