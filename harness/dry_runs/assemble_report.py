"""Builds a dry run's report from the child process's result, stub counts and memory samples."""

import ast
import contextlib
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.dry_runs.child_result import ChildResult
from harness.dry_runs.dry_run_report import Device, DryRunFit, DryRunReport
from harness.dry_runs.dry_run_request import Request
from harness.dry_runs.host_report import host_of
from harness.dry_runs.library_notes import ENGINE_MISSING
from harness.dry_runs.pretended_gpu import PretendedGpu
from harness.dry_runs.real_processes import RealProcesses, real_processes, uncounted
from harness.dry_runs.status_page import NO_ROOM, StatusPage, not_pretended
from harness.dry_runs.value_places import bounds, unknown_sizes
from harness.schema.host import Host
from harness.schema.memory_fit import Fit, fit_of
from harness.schema.metrics import CudaPeaks
from harness.schema.run_outcome import Outcome
from harness.schema.units import format_bytes

_WORST_FIRST: tuple[Fit, ...] = ("does not fit", "close call", "fits")
_OUTCOMES: Mapping[str, Outcome] = {
    "ok": Outcome.OK,
    "stopped": Outcome.OK,
    "oom": Outcome.OOM,
    "error": Outcome.ERROR,
    "interrupted": Outcome.KILLED,
}


def assemble_report(
    request: Request,
    folder: Path,
    inside: ChildResult,
    page: StatusPage,
    architectures: Sequence[int],
    *,
    code: int,
    late: bool,
    received: int | None,
    seconds: float,
) -> DryRunReport:
    """Return the report of one dry run.

    ``code`` is the child process's exit code, or the negative number of the signal that ended it.
    ``received`` is the signal that the harness received and passed on to the child process.
    """
    gpu = request.gpu
    processes = real_processes(folder, inside, page, gpu)
    inside = processes.seen
    devices = inside.devices
    if inside.ended == "lost" and not devices:
        devices = tuple(
            Device(index=i, peaks=CudaPeaks(reserved_peak_bytes=peak))
            for i, peak in enumerate(page.peaks[: gpu.count])
        )
    outcome, evidence = _outcome(inside, page, processes, code, received)
    if outcome == "ok" and _asked_nothing(request, inside, page):
        outcome, evidence = Outcome.UNSUPPORTED, _nothing_ran(request)
    if late:
        outcome, evidence = Outcome.TIMEOUT, f"ended after {request.deadline_seconds} seconds"
    peaks = [device.peaks for device in devices]
    held = sum(device.peaks.reserved_peak_bytes or 0 for device in devices)
    held = max(held, sum(one.held_bytes for one in processes.shared))
    host = host_of(folder, inside, held, gpu, request.host_memory_bytes)
    cuda = max(peaks, key=lambda one: one.reserved_peak_bytes or 0, default=CudaPeaks())
    if processes.rows:
        cuda = processes.rows[0].cuda
    return DryRunReport(
        outcome=outcome,
        evidence=evidence,
        exit_code=inside.exit_code,
        gpu=gpu.name,
        gpu_total_bytes=gpu.total_bytes,
        cuda=cuda,
        fit=_fit(outcome, cuda, gpu, processes, host),
        host=host,
        outside_bytes=gpu.outside_bytes,
        devices=devices,
        processes=processes.rows,
        shared=processes.shared,
        out_of_memory=inside.out_of_memory,
        value_reads=inside.value_reads,
        last_truth=inside.last_truth,
        unsupported=page.unsupported,
        notes=(*inside.notes, *_notes(page, inside, gpu, architectures)),
        optimizer_steps=inside.optimizer_steps,
        kernels=page.kernels,
        wall_seconds=seconds,
        compiled=inside.compiled,
        rank=request.rank if request.world_size is not None else None,
        world_size=request.world_size,
        environment={**inside.environment, "device": f"dry run, {gpu.name}"},
        tests=inside.tests,
        computed=inside.computed,
        cells=inside.cells,
        freed=inside.freed,
        returned=inside.returned,
    )


def _outcome(
    inside: ChildResult,
    page: StatusPage,
    processes: RealProcesses,
    code: int,
    received: int | None,
) -> tuple[Outcome, str | None]:
    """Return the outcome of the run, and the error or another reason for the outcome."""
    if received is not None and inside.ended in ("ok", "interrupted", "lost"):
        interrupted = received == signal.SIGINT
        return Outcome.KILLED, "interrupted" if interrupted else f"ended by {_signal(received)}"
    if inside.ended == "lost" and code >= 0:
        return Outcome.CRASHED, f"the process ended by itself with exit code {code}"
    if inside.ended == "lost":
        name = _signal(-code)
        killed = name in ("SIGKILL", "SIGTERM")
        return Outcome.KILLED if killed else Outcome.CRASHED, f"ended by {name}"
    outcome, evidence = _OUTCOMES[inside.ended], inside.evidence
    if outcome == "error" and page.unsupported:
        outcome, evidence = Outcome.UNSUPPORTED, f"{not_pretended(page.unsupported)}; {evidence}"
    if outcome == "oom" and any(name.startswith(NO_ROOM) for name in page.unsupported):
        return Outcome.UNSUPPORTED, f"{not_pretended(page.unsupported)}; {evidence}"
    if outcome == "ok" and (reason := _uncounted(page, processes)):
        return Outcome.UNSUPPORTED, reason
    open_sizes = unknown_sizes(inside.value_reads)
    if open_sizes and outcome in ("ok", "error", "oom"):
        return Outcome.UNSUPPORTED, f"{open_sizes}; {evidence}" if evidence else open_sizes
    if outcome == "error" and inside.out_of_memory and ENGINE_MISSING in (evidence or ""):
        return Outcome.OOM, f"no workspace of cuDNN did fit: {evidence}"
    if outcome in ("ok", "error") and page.refused_elsewhere_bytes:
        size = format_bytes(page.refused_elsewhere_bytes)
        refused = f"another process of the script was refused an allocation of {size}"
        return Outcome.OOM, f"{refused}; {evidence}" if evidence else refused
    if outcome in ("ok", "error") and (why := page.ranks_failed.decode(errors="replace")):
        return Outcome.ERROR, f"{why}; {evidence}" if evidence else why
    if outcome == "ok" and processes.unknown:
        return Outcome.UNSUPPORTED, processes.unknown
    return outcome, evidence


def _signal(number: int) -> str:
    """Return the name of a signal, or ``signal N`` for a real-time signal."""
    return signal.Signals(number).name if number < signal.SIGRTMIN else f"signal {number}"


def _asked_nothing(request: Request, inside: ChildResult, page: StatusPage) -> bool:
    """Return True if a script used PyTorch without a GPU and the user set no host memory limit."""
    is_script = request.kind != "function" and "torch" in inside.environment
    return is_script and not page.allocated and request.host_memory_bytes is None


def _nothing_ran(request: Request) -> str:
    file, name = request.target, "NETWORK"
    with contextlib.suppress(OSError, SyntaxError, ValueError):  # it may have changed by now
        body = ast.parse(Path(file).read_bytes()).body
        name = next((one.name for one in reversed(body) if isinstance(one, ast.ClassDef)), name)
    return (
        "nothing was run on a GPU: move the model and its inputs to 'cuda', or ask about a network"
        f" that nothing runs with harness predict {file}:{name}"
    )


def _uncounted(page: StatusPage, processes: RealProcesses) -> str | None:
    """Return why the allocator's peaks do not match the driver stub's count; None if they match."""
    if page.hidden and not page.allocated:
        return (
            "CUDA_VISIBLE_DEVICES hid every pretended GPU from the script; --gpus N pretends more"
        )
    return None if processes.rows else uncounted(processes.seen, page.peaks)


def _notes(
    page: StatusPage, inside: ChildResult, gpu: PretendedGpu, architectures: Sequence[int]
) -> Iterator[str]:
    if inside.ended == "lost":
        yield "the process ended without its own report: peaks are the driver's"
    if inside.ended == "stopped":
        yield f"ended after {inside.optimizer_steps} optimizer steps, as asked"
    yield from bounds(inside.value_reads)
    if not page.allocated and inside.ended in ("ok", "stopped"):
        hint = "" if gpu.count > 1 else "; if it wants more than one GPU, give --gpus N"
        yield f"the script allocated no memory on the GPU{hint}"
    if kept := _kept_by_works(inside.devices):
        yield (
            f"collectives kept {format_bytes(kept)} of a step until a later one, as PyTorch finds"
            " them complete at the end of a step here; where it finds them sooner the peak is up to"
            " so much lower, and higher on a GPU that is a step behind"
        )
    if inside.ended in ("ok", "stopped") and inside.out_of_memory:
        count = len(inside.out_of_memory)
        were = "s were" if count > 1 else " was"
        yield (
            f"{count} allocation{were} refused, and the script went on: the peaks are those of what"
            " did fit"
        )
    if architectures and gpu.binary(architectures) is None:
        yield (
            f"this build of PyTorch has no kernels for capability {gpu.capability[0]}."
            f"{gpu.capability[1]} (it has {', '.join(map(str, architectures))}): it does not run"
            " on such a GPU"
        )


def _fit(
    outcome: Outcome,
    cuda: CudaPeaks,
    gpu: PretendedGpu,
    processes: RealProcesses,
    host: Host | None,
) -> DryRunFit | None:
    """Return whether the peaks plus the memory outside the allocator fit the GPU."""
    if outcome == "oom" or (outcome == "ok" and processes.seen.out_of_memory):
        return "does not fit"
    if outcome != "ok" or cuda.reserved_peak_bytes is None:
        return None
    if gpu.one_pool:
        return "unknown" if host is None else host.fit
    if processes.rows:
        fits = {one.fit for one in processes.rows} | {one.fit for one in processes.shared}
        return next((one for one in _WORST_FIRST if one in fits), None)
    late = cuda.reserved_peak_bytes + gpu.outside_bytes[1] + _kept_by_works(processes.seen.devices)
    return fit_of(in_every_case=late <= gpu.total_bytes, in_some_case=True)


def _kept_by_works(devices: Sequence[Device]) -> int:
    return max((device.kept_by_works for device in devices), default=0)
