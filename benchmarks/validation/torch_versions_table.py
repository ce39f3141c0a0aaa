"""The table of the memory model by version of PyTorch, made from the results of its tests."""

from collections.abc import Iterable, Sequence
from typing import Any

from harness.prediction.torch_rules import CHANGES

HEAD = """# The memory model by version of PyTorch

`make test-versions` writes this file: each version in an environment of its own, as pip installs
it on Linux x86-64 without local configuration (CUDA builds, run without a GPU). A tiny workload of
`harness doctor --check-model` is *equal* if every measured event was the predicted one (same order,
operator, module, category, size and block), and the saved bytes too. The tests compare events,
saved tensors, module profiles and thresholds with measurement, and the allocation trace with
PyTorch's MemTracker.
"""
COLUMNS = ["torch", "Python", "tests passed", "failed", "skipped", "drawn workloads"]
COLUMNS += ["tiny workloads equal", "seconds"]


def render(results: Sequence[dict[str, Any]]) -> str:
    """Return the page."""
    processors = "; ".join(dict.fromkeys(each["processor"] for each in results))
    changes = (
        f"- since {change.since}: {change.after}; before: {change.before}" for change in CHANGES
    )
    parts = (HEAD, _table(map(_row, results)), f"\nProcessor: {processors}.\n", "## Changes\n")
    return "\n".join((*parts, *changes, ""))


def _row(result: dict[str, Any]) -> list[str]:
    differs = any("test_trace_property" in name for name in result["failed"])
    return [
        result["torch"],
        result["python"],
        str(result["passed"]),
        ", ".join(result["failed"]) or "0",
        str(result["skipped"]),
        f"{result['drawn']}, {'with a difference' if differs else 'none differs'}",
        f"{result['equal']} of {result['workloads']}",
        str(result["test_seconds"]),
    ]


def _table(rows: Iterable[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (COLUMNS, ["---"] * 8, *rows))
