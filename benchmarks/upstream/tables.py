"""The results of upstream's tests as a page."""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from harness.schema.units import format_bytes

HEAD = """# Upstream's own GPU tests on a pretended GPU

`make upstream TITAN=DIR PYTORCH=DIR` writes this folder. `harness dry-run -m pytest FILE` runs each
unmodified test of the clones on a machine without a GPU. A test is *refused* if its result depends
on values that are unknown without a GPU; a refused test never counts as passed. The peak is the
largest number of bytes that were requested from the allocator.
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
        yield f"{counted}; torch {torch}; commit `{results['projects'][project]}`."
        shown = [one for one in rows if one["requested_peak_bytes"] or one["outcome"] != "passed"]
        yield f"{len(rows) - len(shown)} tests that passed without GPU memory are not shown.\n"
        yield "| file | test | on | result | peak | seconds |"
        yield "|---|---|---|---|---|---|"
        for row in shown:
            peak = row["requested_peak_bytes"]
            cells = [row["file"].rpartition("/")[2], row["test"], row["gpu"], row["outcome"]]
            cells += ["-" if peak is None else format_bytes(peak), str(row["seconds"])]
            yield f"| {' | '.join(cells)} |".replace("_", r"\_")
        yield ""
        for row in rows:
            if row["outcome"] in ("failed", "refused"):
                said = row["cause"] or row["why"]
                yield f"- `{row['test']}` ({row['outcome']}): {said}".replace("|", r"\|")
        yield ""
