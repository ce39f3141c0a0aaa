"""Formats the metrics of a step as one line of text, or as rows with readable names."""

from msgspec.structs import asdict

from harness.schema.metrics import Metrics
from harness.schema.units import format_bytes


def metrics_line(subject: str, outcome: str, value: Metrics) -> str:
    """Return one line with the subject, the outcome, the saved bytes and the peak."""
    parts = [f"{subject}: {outcome}"]
    if value.saved_bytes is not None:
        parts.append(f"saved for backward {format_bytes(value.saved_bytes)}")
    if value.peak_live_bytes is not None:
        where = f" in {value.peak_phase}" if value.peak_phase else ""
        parts.append(f"peak {format_bytes(value.peak_live_bytes)}{where}")
    return ", ".join(parts)


def metrics_rows(value: Metrics) -> list[tuple[str, int]]:
    """Return each known byte metric with a readable name."""
    categories = {} if value.categories_at_peak is None else asdict(value.categories_at_peak)
    process = {} if value.process is None else asdict(value.process)
    cuda = {} if value.cuda is None else asdict(value.cuda)
    rows: list[tuple[str, int | None]] = [
        ("saved for backward", value.saved_bytes),
        ("  inputs", value.saved_input_bytes),
        ("  activations", value.saved_activation_bytes),
        ("peak of live bytes", value.peak_live_bytes),
        *((f"  {_category(name, value)}", size) for name, size in categories.items()),
        ("peak of live bytes, first step", value.first_step_peak_live_bytes),
        *(
            (f"peak in {phase}", one.peak_live_bytes)
            for phase, one in (value.phases or {}).items()
            if phase != "build"
        ),
        ("RSS rise", value.rss_rise_bytes),
        ("RSS peak", value.rss_peak_bytes),
        *((f"  {name.removesuffix('_bytes')}", size) for name, size in process.items()),
    ]
    for name, size in cuda.items():
        if name.endswith("_bytes") and size:
            rows.append((f"CUDA {name.removesuffix('_bytes').replace('_', ' ')}", size))
    if cuda.get("first_step") is not None:
        rows.append(("CUDA reserved peak, first step", cuda["first_step"].reserved_peak_bytes))
    return [(name, size) for name, size in rows if size is not None]


def _category(name: str, value: Metrics) -> str:
    """Return a readable name of a category; on a GPU, ``temporary`` includes library workspaces."""
    words = name.replace("_", " ")
    return f"{words}, with workspaces" if name == "temporary" and value.cuda else words
