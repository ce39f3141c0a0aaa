"""The results of upstream's tests as a page."""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from harness.schema.units import format_bytes

HEAD = """# Upstream GPU tests on a pretended GPU

`make upstream TITAN=DIR PYTORCH=DIR` writes this folder. It runs unmodified test files of PyTorch
and torchtitan with `harness dry-run -m pytest FILE`, on a machine without a GPU. A test is *not
known* if it depends on a value that is unknown without a GPU, or if it calls a function of CUDA
that the dry run does not support. Such a test is never counted as passed. The column "peak"
states the maximum of requested bytes.
"""


def results_page(results: Mapping[str, Any]) -> str:
    """Return the page of all results."""
    return "\n".join([HEAD, *_lines(results)])


def _lines(results: Mapping[str, Any]) -> Iterator[str]:
    for project, tests in groupby(results["tests"], key=lambda row: row["project"]):
        rows = list(tests)
        counts = Counter(row["outcome"] for row in rows)
        counted = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        torch = ", ".join(sorted({str(row.get("torch")) for row in rows}))
        yield f"## {project}\n"
        yield f"Results: {counted}; torch {torch}; commit `{results['projects'][project]}`."
        shown = [one for one in rows if one["requested_peak_bytes"] or one["outcome"] != "passed"]
        hidden = len(rows) - len(shown)
        yield f"The table leaves out {hidden} tests that passed and used no GPU memory.\n"
        yield "| file | test | on | result | peak | seconds |"
        yield "|---|---|---|---|---|---|"
        for row in shown:
            peak = row["requested_peak_bytes"]
            cells = [row["file"].rpartition("/")[2], row["test"], row["gpu"], row["outcome"]]
            cells += ["-" if peak is None else format_bytes(peak), str(row["seconds"])]
            yield f"| {' | '.join(cells)} |".replace("_", r"\_")
        yield ""
        for row in rows:
            if row["outcome"] in ("failed", "not known"):
                said = row["cause"] or row["why"]
                yield f"- `{row['test']}` ({row['outcome']}): {said}".replace("|", r"\|")
        yield ""
