"""Makes the sheet of a threshold, with the prediction, the parts of the budget and the probes."""

from harness.plots.sheet import Part, Sheet, ShownTable, sizes_table
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


def threshold_sheet(threshold: FoundThreshold) -> Sheet:
    """Return the sheet of a threshold, with one table row per probe."""
    solve, parts = threshold.solve, list[Part]([threshold.question])
    for text, value in (
        ("predicted", threshold.predicted),
        ("predicted from live bytes alone", threshold.live_bytes_predict),
    ):
        if value is not None or isinstance(threshold, Threshold):
            parts.append(f"{text}: {'no prediction' if value is None else f'{solve} {value:,}'}")
    if isinstance(threshold, Threshold) and threshold.outside:
        parts.append(threshold.outside)
    parts += [f"{key}: {fact}" for key, fact in threshold.evidence.items()]
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
    heads = (f">probed {solve}", "outcome", "phase", ">needed", ">seconds")
    parts.append(ShownTable(heads=heads, rows=rows))
    if isinstance(threshold, Threshold) and threshold.headroom is not None:
        sizes = [(label, getattr(threshold.headroom, name)) for name, label in _HEADROOM.items()]
        parts.append(sizes_table("", sizes, f"the budget at {solve} {threshold.largest_fit:,}"))
    return Sheet(
        title=threshold.answer,
        verdict=[threshold.answer],
        parts=parts,
        notes=threshold.notes if isinstance(threshold, StepThreshold) else (),
    )
