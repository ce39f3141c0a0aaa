"""States what a run measured: network, grid, cells, machine and versions, for the first page."""

from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from harness.analysis import AnalysisError
from harness.analysis.compare import compare
from harness.analysis.frame import RECORDS, load_files
from harness.reporting.claims import REFERENCE
from harness.reporting.document import Document
from harness.schema.findings import as_written
from harness.schema.units import format_bytes
from harness.schema.workload import Workload

MEMORY = "Live bytes of tensors, counted exactly at every allocation; not the process's RSS."
_DEFAULTS = {name: one.default for name, one in Workload.__dataclass_fields__.items()}
_LEFT_OUT = ("device", "malloc", "seed", "data", "hidden", "foreach")
_WITHOUT_NAME = ("model", "activation", "optimizer", "dtype", "mode")
_SHOWN = (*_WITHOUT_NAME, "in_features", "classes", "width")
"""Fields that are stated also if they have their default value."""


def run_facts(report: Document, frame: pd.DataFrame) -> tuple[tuple[str, str], ...]:
    """Return facts with their names; ``frame`` has the records of the main experiment."""
    values = {name: frame[name].dropna().tolist() for name in _DEFAULTS if name not in _LEFT_OUT}
    grid = {name: own for name, own in values.items() if len(set(own)) > 1}
    network = {name: own[0] for name, own in values.items() if own and name not in grid}
    facts = dict(report.environment.frame.itertuples(index=False, name=None))
    size = facts.get("memory_bytes", "")
    machine = [
        facts.get("cpu", ""),
        facts.get("gpu", "no GPU"),
        f"{format_bytes(int(size))} of memory" if size.isdigit() else "",
        *(f"{word} {facts[key]}" for key, word in _VERSIONS if key in facts),
        facts.get("time", "")[:10],
    ]
    counts = ", ".join(f"{count:,} {name}" for name, count in report.totals.items())
    named = [
        _named(name, value)
        for name, value in network.items()
        if name in _SHOWN or value != _DEFAULTS[name]
    ]
    rows = {
        "Network": ", ".join(named),
        "Grid": ", ".join(_varying(name, own) for name, own in grid.items()),
        "Cells": f"{report.main.section.coverage if report.main else ''} In all: {counts}.".strip(),
        "Machine": ", ".join(filter(None, machine)),
        "Memory": MEMORY,
    }
    return tuple((name, words) for name, words in rows.items() if words)


_COUNTED = {"in_features": "inputs", "classes": "classes"}
_VERSIONS = (("torch", "PyTorch"), ("python", "Python"))


def _named(name: str, value: object) -> str:
    if name in _COUNTED:
        return f"{_text(value)} {_COUNTED[name]}"
    return _text(value) if name in _WITHOUT_NAME else f"{name.replace('_', ' ')} {_text(value)}"


def _text(value: object) -> str:
    return as_written(value) if isinstance(value, str) else f"{value:,}"


def _varying(name: str, values: list[Any]) -> str:
    """Return a field with its range, or with its most common value and the other values."""
    (often, count), *_ = Counter(values).most_common()
    others = [one for one in sorted(set(values)) if one != often]
    if count > len(values) / 2:
        return f"{_named(name, often)} (also {_listed(others)})"
    if isinstance(often, int):
        return f"{_named(name, min([often, *others]))} to {_text(max([often, *others]))}"
    return _listed([often, *others])


def _listed(values: list[Any]) -> str:
    return " and ".join(filter(None, (", ".join(map(_text, values[:-1])), _text(values[-1]))))


def against_reference(folder: Path, frame: pd.DataFrame) -> str:
    """Return a sentence that compares exact numbers with the reference run, if it is known."""
    is_gpu = bool((frame["device"] == "cuda").any())
    reference = REFERENCE.with_name("reference-cuda-dry-run") if is_gpu else REFERENCE
    if folder.resolve() == reference.resolve():
        return "This run is the reference run."
    files = [reference / str(name) / RECORDS for name in frame["experiment"].unique()]
    known = load_files(found) if (found := [path for path in files if path.is_file()]) else None
    try:
        both = None if known is None else compare(known, frame)
    except AnalysisError:  # a run with several cells of one kind
        return ""
    if known is None or both is None or not both.compared:
        return ""
    day, commit = (str(known[f"environment.{key}"].iloc[0])[:12] for key in ("time", "git_commit"))
    run = f"the reference run ({day[:10]}, {commit})"
    values = f"{both.compared:,} exact numbers"
    if both.different.empty:
        return f"All {values} of {both.cells:,} cells equal those of {run}."
    known_pairs = both.different.dropna()
    example = "".join(
        f", such as {one.metric} of {one.cell}: {one.b_bytes:,} instead of {one.a_bytes:,}"
        for one in known_pairs.head(1).itertuples()
    )
    differ = f"{len(both.different):,} of {values} of {both.cells:,} cells"
    return f"{differ} differ from {run}{example}."
