"""The table of layers that ``harness profile`` and ``harness predict TARGET`` print."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from harness.schema.layer_names import common_name, pattern
from harness.schema.metrics import Layer
from harness.schema.units import format_bytes

FOLDED_FROM = 24
"""Rows from which on repeated blocks are folded into one row."""
MOST_ROWS = 40
ALL = "all layers"


def layer_table(layers: Sequence[Layer], peak_bytes: int) -> Table:
    """Return a row for each layer that holds anything, in the order of the forward pass."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("layer", overflow="fold")
    for title in ("parameters", "saved", "output", "of the peak"):
        table.add_column(title, justify="right")
    rows = [r for r in layers if r.parameter_bytes or r.saved_bytes or r.peak_bytes]
    shown = folded(rows) if len(rows) >= FOLDED_FROM else rows
    left_out = len(shown) - MOST_ROWS
    for row in [*shown[:MOST_ROWS], _total(rows)]:
        if row.name == ALL and left_out > 0:
            table.add_row(f"... {left_out} more rows; --json lists all")
        sizes = (row.parameter_bytes, row.saved_bytes, row.output_bytes)
        share = f"{row.peak_bytes / peak_bytes:.1%}" if peak_bytes else ""
        name = f"{row.name or '(network)'} ({row.kind})" if row.kind else row.name
        table.add_row(Text(name), *(format_bytes(s) if s else "" for s in sizes), share)
    return table


def folded(rows: Sequence[Layer]) -> list[Layer]:
    """Return the rows with those of equal blocks in one: ``blocks.0–7.norm``, x8.

    >>> def row(name, size=4):
    ...     return Layer(name=name, kind="Linear", parameter_bytes=size, output_bytes=1,
    ...                  saved_bytes=2, peak_bytes=3)
    >>> [(one.name, one.kind, one.saved_bytes) for one in folded(
    ...     [row("blocks.0.up"), row("blocks.1.up"), row("head", 8)])]
    [('blocks.0–1.up', 'Linear x2', 4), ('head', 'Linear', 2)]
    """
    groups: dict[tuple[str, str, int], list[Layer]] = {}
    for row in rows:
        key = pattern(row.name), row.kind, row.parameter_bytes
        groups.setdefault(key, []).append(row)
    return [_summed(group) for group in groups.values()]


def _summed(group: Sequence[Layer]) -> Layer:
    first = group[0]
    if len(group) == 1:
        return first
    return Layer(
        name=common_name([row.name for row in group]),
        kind=f"{first.kind} x{len(group)}",
        parameter_bytes=sum(row.parameter_bytes for row in group),
        output_bytes=sum(row.output_bytes for row in group),
        saved_bytes=sum(row.saved_bytes for row in group),
        peak_bytes=sum(row.peak_bytes for row in group),
    )


def _total(rows: Sequence[Layer]) -> Layer:
    return Layer(
        name=ALL,
        kind="",
        parameter_bytes=sum(row.parameter_bytes for row in rows),
        output_bytes=0,
        saved_bytes=sum(row.saved_bytes for row in rows),
        peak_bytes=sum(row.peak_bytes for row in rows),
    )
