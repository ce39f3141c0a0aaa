"""Answers if the dry run works on this machine, by a tiny one."""

from harness.dry_run.compiled import TESTED_TRITON, triton_version
from harness.dry_run.run import dry_run
from harness.dry_run.toolchain import DryRunUnavailableError, compiler, torch_build
from harness.measurement.doctor import Finding

WHAT = "CUDA dry run"


def examine_dry_run() -> Finding:
    """Allocate one tensor on a pretended GPU; say what is missing where that cannot be done."""
    try:
        torch = torch_build()
        detail = (
            f"torch {torch.version} (CUDA {torch.cuda}), stub compiled by {compiler()}; compiled"
            f" code by Triton {triton_version() or 'not installed'} (tested:"
            f" {' and '.join(TESTED_TRITON)})"
        )
        report = dry_run(allocate, 1 << 20, quiet=True, deadline_seconds=120.0)
    except DryRunUnavailableError as error:
        return Finding(what=WHAT, available=False, detail=str(error))
    if report.cuda.reserved_peak_bytes != 2 << 20:
        return Finding(
            what=WHAT, available=False, detail=f"{detail}; {report.outcome}: {report.evidence}"
        )
    return Finding(what=WHAT, available=True, detail=detail)


def allocate(size_bytes: int) -> None:
    """Allocate bytes on the GPU."""
    import torch

    torch.empty(size_bytes, dtype=torch.uint8, device="cuda")
