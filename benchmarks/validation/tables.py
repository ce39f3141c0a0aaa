"""Tables of the comparisons: one as Markdown to read, one as CSV to compute with."""

import csv
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path


def write_table(
    stem: Path, title: str, summary: str, heads: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    """Write ``stem``.md, which ends by saying when and with which torch, and ``stem``.csv."""
    summary += f" Made on {datetime.now(UTC):%Y-%m-%d} with torch {version('torch')}."
    stem.parent.mkdir(parents=True, exist_ok=True)
    with stem.with_suffix(".csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([heads, *rows])
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    text = [
        f"# {title}",
        "",
        summary,
        "",
        "| " + " | ".join(heads) + " |",
        "|" + " --- |" * len(heads),
        *("| " + " | ".join(cells) + " |" for cells in escaped),
        "",
    ]
    stem.with_suffix(".md").write_text("\n".join(text))
