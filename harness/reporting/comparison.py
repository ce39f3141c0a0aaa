"""Formats the comparison of two runs or two predictions as text."""

from collections.abc import Iterator, Sequence

from harness.analysis.compare import Comparison
from harness.analysis.compare_predictions import Difference, PredictionComparison, Value
from harness.reporting.tables import shown
from harness.schema.findings import Table
from harness.schema.layer_names import common_name, pattern
from harness.schema.units import format_bytes

MOST = 20
"""Largest number of printed rows; a last line states how many rows are left out."""
_LONGEST_TEXT = 40

# Differences of a few bytes vanish in a unit, so these are printed digit by digit.
_EXACT_NAMES = {
    name: f"{name.removesuffix('_bytes')} (bytes)"
    for name in ("a_bytes", "b_bytes", "difference_bytes")
}


def runs_text(comparison: Comparison) -> str:
    """Return the result of a comparison as text, followed by tables of the differences."""
    parts = [str(comparison)]
    lists = (
        ("Ended differently", comparison.outcomes),
        ("Exact metrics that differ", comparison.different),
        ("Noisy metrics, second run divided by first", comparison.noisy),
        ("Noisy metrics that are more than ten times off", comparison.far_apart),
    )
    for title, frame in lists:
        if len(frame):
            head = frame.head(MOST).rename(columns=_EXACT_NAMES)
            table = shown(Table(name="comparison", caption=title, frame=head))
            parts += ["", f"{title}:", *_aligned([table.headings, *table.rows], table.numeric)]
            if len(frame) > MOST:
                parts.append(f"... and {len(frame) - MOST} more")
    return "\n".join(parts)


def _aligned(rows: Sequence[Sequence[str]], numeric: Sequence[bool]) -> Iterator[str]:
    """Yield each row as a line with aligned columns; numeric columns are right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        columns = zip(row, widths, numeric, strict=True)
        texts = [text.rjust(width) if num else text.ljust(width) for text, width, num in columns]
        yield "  ".join(texts).rstrip()


def predictions_text(comparison: PredictionComparison) -> str:
    """Return the differences between two predictions as a table."""
    if comparison.equal:
        return "the two predictions are equal"
    if not comparison.differences:
        return "neither prediction has an answer, so nothing can be compared"
    rows = [("value", "first", "second", "change")]
    for name, one in _folded(comparison.differences):
        change = one.change_bytes()
        signed = ("+" if change >= 0 else "-") + format_bytes(abs(change)) if one.is_bytes else ""
        rows.append((name, _shown(one, one.first), _shown(one, one.second), signed))
    return "\n".join(_aligned(rows, (False, True, True, True)))


def _folded(differences: Sequence[Difference]) -> Iterator[tuple[str, Difference]]:
    """Merge differences with equal sizes into one row, e.g. for layers in equal blocks."""
    groups: dict[tuple[object, ...], list[Difference]] = {}
    has_layers = any(each.name.startswith("layers.") for each in differences)
    for each in differences:
        if has_layers and each.name.startswith("modules."):
            continue  # the layers say the same
        kind = pattern(each.name) if each.name.startswith("layers.") else ""
        key = (kind, each.first, each.second) if each.is_bytes else (each.name,)
        groups.setdefault(key, []).append(each)
    for group in groups.values():
        first = min(group, key=lambda each: (len(each.name), each.name))
        if len(group) == 1:
            yield first.name, first
        elif first.name.startswith("layers."):
            yield f"{common_name([each.name for each in group])} x{len(group)}", first
        else:
            yield f"{first.name} (and {len(group) - 1} alike)", first


def _shown(difference: Difference, value: Value) -> str:
    if value is None:
        return "-"
    if isinstance(value, int) and not isinstance(value, bool):
        return format_bytes(value) if difference.is_bytes else f"{value:,}"
    text = " ".join(str(value).split())
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"
