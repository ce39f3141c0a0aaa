"""Writes tables as CSV with raw numbers, and as text with units."""

import re
from dataclasses import dataclass
from typing import Any

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from harness.schema.findings import Table
from harness.schema.plain_text import csv_cell, printable
from harness.schema.units import format_bytes


def csv_text(frame: pd.DataFrame, digits: int = 17) -> str:
    """Return ``frame`` as CSV, with an apostrophe before text that looks like a formula.

    Fractions have ``digits`` significant digits. Whole numbers keep all of their digits.
    """
    safe = frame.rename(columns=csv_cell)
    for position, name in enumerate(safe.columns):
        column = safe.iloc[:, position]
        if not (is_numeric_dtype(column) or is_bool_dtype(column)):
            safe[name] = column.map(csv_cell)

    def number(value: object) -> str:
        whole = float(str(value))
        return repr(whole if whole.is_integer() else float(f"{whole:.{digits}g}"))

    return str(safe.to_csv(index=False, lineterminator="\n", float_format=number))


MISSING = "–"

_WORDS = {
    "rss": "RSS", "cuda": "CUDA", "r2": "R²", "aic": "AIC", "bic": "BIC", "f": "F",
    "percent": "%", "cpu": "CPU", "gpu": "GPU", "id": "id",
}  # fmt: skip

_HEADINGS = {"prediction_bytes": "inference"}
"""Headings of columns whose names contain an outdated word."""

_BREAK = re.compile(r"_|\.(?=[a-z])")


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A table whose cells are text, ready for HTML or Markdown."""

    name: str
    caption: str
    headings: tuple[str, ...]
    numeric: tuple[bool, ...]
    """For each column, True if the column contains numbers and is therefore right-aligned."""
    rows: tuple[tuple[str, ...], ...]


def shown(table: Table) -> Shown:
    """Convert the cells of a table to text, with units and rounded numbers."""
    frame = table.frame
    columns = [[cell(name, value) for value in frame[name]] for name in frame.columns]
    return Shown(
        name=table.name,
        caption=table.caption,
        headings=tuple(heading(str(name)) for name in frame.columns),
        numeric=tuple(pd.api.types.is_numeric_dtype(frame[name]) for name in frame.columns),
        rows=tuple(zip(*columns, strict=True)) if columns else (),
    )


def heading(column: str) -> str:
    """Return a column's name in words: ``peak_live_bytes`` -> ``peak live``."""
    if column in _HEADINGS:
        return _HEADINGS[column]
    words = _BREAK.sub(" ", column.removesuffix("_bytes")).split()
    return " ".join(_WORDS.get(word, word) for word in words)


def cell(column: str, value: Any) -> str:
    """Return a value as text; a column whose name ends in ``_bytes`` is shown with units."""
    if value is None or value is pd.NA or (isinstance(value, float) and pd.isna(value)):
        return MISSING
    if isinstance(value, str | bool):
        return str(value)
    if column.endswith("_bytes"):
        return format_bytes(round(value))
    if column == "r2":
        return r2_text(value)
    if column.split("_")[0] == "p" and value < 1e-4:
        return "< 0.0001"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    size = abs(float(value))
    return f"{value:,.1f}" if size >= 1000 else f"{value:.4g}"


def r2_text(value: float) -> str:
    """Return R² with five digits; a value below 1 is not rounded up to 1."""
    if value > 1 - 1e-9:
        return "1"
    return "> 0.99999" if value > 0.99999 else f"{value:.5f}"


def table_files(table: Table, stem: str) -> dict[str, bytes]:
    """Return the contents of ``stem``.csv with raw numbers, and of ``stem``.md with units.

    Fractions in the CSV have nine digits, because the first nine digits are equal on every
    processor.
    """
    body = f"{escape_markdown(table.caption)}\n\n{to_markdown(shown(table))}\n"
    data = csv_text(table.frame, digits=9)
    return {f"{stem}.csv": data.encode(), f"{stem}.md": printable(body).encode()}


def to_markdown(table: Shown) -> str:
    """Return a Markdown table."""
    rule = ["---:" if number else "---" for number in table.numeric]
    head = [escape_markdown(name) for name in table.headings]
    body = [[escape_markdown(text) for text in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, rule, *body])


_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#])")


def escape_markdown(text: str) -> str:
    """Escape ``text`` so that Markdown shows it unchanged."""
    flat = " ".join(text.split())
    return _SPECIAL.sub(r"\\\1", flat.replace("&", "&amp;").replace("<", "&lt;"))
