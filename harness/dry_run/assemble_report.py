"""The report of a dry run: what was seen from inside, by the stub and from outside."""

import signal
from collections.abc import Mapping, Sequence

import msgspec

from harness.dry_run.dry_run_report import (
    ChildResult,
    CudaPeaks,
    Device,
    DryRunReport,
    Fit,
    Outcome,
)
from harness.dry_run.dry_run_request import Request
from harness.dry_run.pretended_gpu import PretendedGpu
from harness.dry_run.status_page import StatusPage
from harness.dry_run.unknown_sizes import bounds, unknown_sizes

_OUTCOMES: Mapping[str, Outcome] = {
    "ok": "ok",
    "stopped": "ok",
    "oom": "oom",
    "error": "error",
    "interrupted": "killed",
    "unsupported": "unsupported",
}


def assemble_report(
    request: Request,
    inside: ChildResult | None,
    page: StatusPage,
    code: int,
    late: bool,
    seconds: float,
) -> DryRunReport:
    """Put together what was seen from inside, by the stub and from outside."""
    gpu = request.gpu
    notes = list(inside.notes) if inside else []
    outcome: Outcome
    evidence: str | None
    if inside is None:
        outcome, evidence = _died(code)
        devices: Sequence[Device] = [
            Device(index=i, peaks=CudaPeaks(reserved_peak_bytes=peak))
            for i, peak in enumerate(page.peaks[: gpu.count])
        ]
        notes.append("the process ended without its own report: peaks are the driver's")
    else:
        outcome, evidence, devices = _OUTCOMES[inside.ended], inside.evidence, inside.devices
        if inside.ended == "stopped":
            notes.append(f"ended after {inside.optimizer_steps} optimizer steps, as asked")
    if outcome == "error" and page.unsupported:
        outcome = "unsupported"
        evidence = f"{', '.join(page.unsupported)} is not pretended; {evidence}"
    open_sizes = unknown_sizes(inside.value_reads) if inside else None
    if open_sizes and outcome in ("ok", "error"):
        outcome = "unsupported"
        evidence = f"{open_sizes}; {evidence}" if evidence else open_sizes
    notes += bounds(inside.value_reads) if inside else ()
    if late:
        outcome, evidence = "timeout", f"ended after {request.deadline_seconds} seconds"
    if page.other_processes:
        notes.append(
            f"{page.other_processes} other processes of the script used the GPU; their memory is"
            " not in this report"
        )
    if not page.allocated:
        notes.append("the script allocated no memory on the GPU")
    cuda = max((d.peaks for d in devices), key=_reserved, default=CudaPeaks())
    return DryRunReport(
        outcome=outcome,
        evidence=evidence,
        gpu=gpu.name,
        gpu_total_bytes=gpu.total_bytes,
        cuda=cuda,
        fit=_fit(outcome, cuda, gpu),
        outside_bytes=gpu.outside_bytes,
        devices=tuple(devices),
        out_of_memory=inside.out_of_memory if inside else (),
        value_reads=inside.value_reads if inside else (),
        unsupported=page.unsupported,
        notes=tuple(notes),
        optimizer_steps=inside.optimizer_steps if inside else 0,
        kernels=page.kernels,
        wall_seconds=seconds,
        compiled=inside.compiled if inside else None,
        rank=request.rank if request.world_size is not None else None,
        world_size=request.world_size,
        environment={
            **(inside.environment if inside else {}),
            "device": f"dry run, {gpu.name}",
        },
        returned=inside.returned if inside else None,
    )


def noting_kernels(
    report: DryRunReport, gpu: PretendedGpu, architectures: Sequence[int]
) -> DryRunReport:
    """Return the report with a note if PyTorch has no kernels for the GPU."""
    if not architectures or gpu.binary(architectures) is not None:
        return report
    note = (
        f"this build of PyTorch has no kernels for capability {gpu.capability[0]}."
        f"{gpu.capability[1]} (it has {', '.join(map(str, architectures))}): it does not run on"
        " such a GPU"
    )
    return msgspec.structs.replace(report, notes=(*report.notes, note))


def _died(code: int) -> tuple[Outcome, str]:
    if code >= 0:
        return "crashed", f"the process ended by itself with exit code {code}"
    name = signal.Signals(-code).name
    return ("killed" if name in ("SIGKILL", "SIGTERM") else "crashed"), f"ended by {name}"


def _reserved(peaks: CudaPeaks) -> int:
    return peaks.reserved_peak_bytes or 0


def _fit(outcome: Outcome, cuda: CudaPeaks, gpu: PretendedGpu) -> Fit | None:
    """Return whether what ran fits next to the memory outside the allocator."""
    if outcome == "oom":
        return "does not fit"
    if outcome != "ok" or cuda.reserved_peak_bytes is None:
        return None
    sure = cuda.reserved_peak_bytes + gpu.outside_bytes[1] <= gpu.total_bytes
    return "fits" if sure else "close call"
