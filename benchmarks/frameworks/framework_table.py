"""The page of the answers about other frameworks."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.schema.units import format_bytes, format_range

HEAD = """# Other frameworks on a pretended GPU

`make frameworks` writes this folder. It runs each script of `examples/frameworks` with
`harness dry-run`, on a machine without a GPU. If a peak depends on values that are unknown without
a GPU, the script runs again with other values. The table then states the range of the peaks.
"""
MOST_LINES = 3


def results_page(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the page of all results."""
    return "\n".join([HEAD, *_answers(rows), *_closed_forms(rows), *_notes(rows), ""])


def _answers(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "| framework | script | GPU | answer | requested | reserved | lines that decide |"
    yield "|---|---|---|---|---:|---:|---|"
    for row in rows:
        unknown = row["unknown"] or {"moves": False, "lines": []}
        answer = row["verdict"] or row["outcome"]
        cells = [f"{row['framework']}, {row['what']}", f"`{row['command']}`", _on(row), answer]
        cells += [_size(row, name) for name in ("requested_peak_bytes", "reserved_peak_bytes")]
        lines = unknown["lines"] if unknown["moves"] else []
        more = f" and {len(lines) - MOST_LINES} more" if len(lines) > MOST_LINES else ""
        cells.append(", ".join(f"`{line}`" for line in lines[:MOST_LINES]) + more or "-")
        yield f"| {' | '.join(cells)} |"
    yield ""


def _on(row: Mapping[str, Any]) -> str:
    return f"{row['gpu']} {row['options']}".strip()


def _size(row: Mapping[str, Any], name: str) -> str:
    """Return a peak, or its range."""
    if row["unknown"] and row["unknown"]["moves"]:
        low, high = row["unknown"][name]
        return format_range(low, high)
    return "-" if row[name] is None else format_bytes(row[name])


def _closed_forms(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "## Bytes against closed forms\n"
    yield "Each script prints how many bytes it has requested, for example for its weights."
    yield "The table compares these bytes with a closed form, which is a formula of the sizes of"
    yield "tensors, and with bytes that the framework adds.\n"
    yield "| script | memory | printed bytes | closed form | its bytes | added bytes | difference |"
    yield "|---|---|---:|---|---:|---|---:|"
    for row in rows:
        for one in row["readings"]:
            added = "; ".join(f"{name}: {size:,}" for name, size in one["added"].items()) or "-"
            cells = [f"`{row['command']}`", one["name"], f"{one['bytes']:,}", one["formula"]]
            cells += [
                f"{one['formula_bytes']:,}",
                added,
                f"{one['bytes'] - one['expected_bytes']:,}",
            ]
            yield f"| {' | '.join(cells)} |"
    yield ""


def _notes(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "## Versions and notes\n"
    known = {name: one for row in rows for name, one in row["versions"].items()}
    torch = ", ".join(sorted({str(row["torch"]) for row in rows}))
    yield f"torch {torch}; {', '.join(f'{name} {known[name]}' for name in sorted(known))}.\n"
    yield "The reports of the dry runs contain these notes:\n"
    for row in rows:
        said = ([row["evidence"]] if row["evidence"] else []) + row["notes"]
        for note in said:
            if not note.startswith("initial values"):  # of the host's memory
                yield f'- `{row["command"]}`: "{note}"'
