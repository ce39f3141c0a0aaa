"""Checks for ``harness doctor`` whether a dry run works on this machine."""

from collections.abc import Iterator

from harness.dry_runs.file_layer import WAYS_OUT
from harness.dry_runs.run import dry_run
from harness.dry_runs.toolchain import DryRunUnavailableError, compiler, torch_build
from harness.prediction.versions import installed_version
from harness.schema.ability import Ability

TESTED_TRITON = ("3.8", "3.9")
"""Triton versions with which the tests passed; torch 2.14 and 2.15 use these versions."""


def examine_dry_run() -> Iterator[Ability]:
    """Allocate a tensor on a pretended GPU; yield whether a dry run works, or what is missing."""
    what = "CUDA dry run"
    try:
        torch = torch_build()
        detail = (
            f"torch {torch.version} (CUDA {torch.cuda}), stub compiled by {compiler()}; compiled"
            f" code by Triton {installed_version('triton') or 'not installed'} (tested:"
            f" {' and '.join(TESTED_TRITON)})"
        )
        report = dry_run(allocate, 1 << 20, quiet=True)
    except DryRunUnavailableError as error:
        yield Ability(what, False, str(error))
        return
    if report.cuda.reserved_peak_bytes != 2 << 20:
        yield Ability(what, False, f"{detail}; {report.outcome}: {report.evidence}")
        return
    yield Ability(what, True, detail)
    files = report.files
    if files is not None and files.mode == "layer":
        yield Ability("files of a dry run", True, "a layer of the kernel's overlay for each run")
    elif files is not None:
        why = f"read-only, because the kernel refuses a layer ({files.refused}): {WAYS_OUT}"
        yield Ability("files of a dry run", False, why)


def allocate(size_bytes: int) -> None:
    """Allocate a tensor of ``size_bytes`` on the GPU."""
    import torch

    torch.empty(size_bytes, dtype=torch.uint8, device="cuda")
