"""Scripts for the tests of the dry run."""

from pathlib import Path
from typing import Any

from harness.dry_runs.dry_run_report import DryRunReport
from harness.dry_runs.run import dry_run

TAKE = (
    "import ctypes\n"
    "ctypes.CDLL(None).cudaMalloc(ctypes.byref(ctypes.c_void_p()), ctypes.c_size_t({}))"
)
"""Takes memory of the GPU without PyTorch, which takes seconds to import."""


def script(folder: Path, text: str) -> Path:
    """Write a script."""
    path = folder / "script.py"
    path.write_text(text)
    return path


def run(folder: Path, text: str, *arguments: object, **options: Any) -> DryRunReport:
    """Run a script quietly."""
    return dry_run(script(folder, text), *arguments, quiet=True, **options)


def succeeds(folder: Path, text: str, *arguments: object, **options: Any) -> DryRunReport:
    """Run a script that ends well."""
    report = run(folder, text, *arguments, **options)
    assert report.outcome == "ok", report.evidence
    return report


def refused(folder: Path, text: str, why: str, **options: Any) -> DryRunReport:
    """Run a script that has no answer, for a reason that is named."""
    report = run(folder, text, **options)
    assert (report.outcome, report.fit) == ("unsupported", None)
    assert why in (report.evidence or "")
    return report
