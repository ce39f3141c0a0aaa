"""Run a script, a module or a function on a pretended GPU, in a process of its own."""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import msgspec

from harness.dry_run.build import build, preloaded
from harness.dry_run.dry_run_report import (
    ChildResult,
    CudaPeaks,
    Device,
    DryRunReport,
    Fit,
    Job,
    Outcome,
)
from harness.dry_run.fake_ranks import variables
from harness.dry_run.for_workers import joined
from harness.dry_run.pretended_gpu import PretendedGpu, pretended_gpu
from harness.dry_run.status_page import SIZE_BYTES, StatusPage
from harness.dry_run.toolchain import TorchBuild, torch_build
from harness.prediction.gpu.catalogue import Gpu
from harness.schema.errors import HarnessError

GRACE_SECONDS = 30.0
"""How long an interrupted script has to clean up and its report to be written."""


class DryRunError(HarnessError, ValueError):
    """A dry run that cannot be started as it was asked for."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A dry run in all its parts; ``dry_run`` makes one from friendlier arguments."""

    gpu: PretendedGpu
    kind: str
    target: str
    arguments: tuple[str, ...] = ()
    steps: int | None = None
    snapshot: Path | None = None
    answers: Mapping[str, float]
    world_size: int | None = None
    rank: int = 0
    deadline_seconds: float | None = None
    environment: Mapping[str, str]
    main: str | None = None
    quiet: bool = False


def dry_run(
    target: str | Path | Callable[..., object],
    *arguments: object,
    gpu: str | Gpu | PretendedGpu | None = None,
    capability: str | None = None,
    memory_bytes: int | None = None,
    multiprocessors: int | None = None,
    gpus: int = 1,
    outside_bytes: int | None = None,
    largest_workspace: bool = False,
    steps: int | None = None,
    snapshot: str | Path | None = None,
    answers: Mapping[str, float] | None = None,
    world_size: int | None = None,
    rank: int = 0,
    deadline_seconds: float | None = None,
    environment: Mapping[str, str] | None = None,
    module: bool = False,
    quiet: bool = False,
    **named: object,
) -> DryRunReport:
    """Run code on a pretended GPU and report what PyTorch's CUDA allocator did.

    Args:
        target: path of a script, name of a module (with ``module=True``), or a function that can
            be pickled; it runs in a process of its own.
        *arguments: what the function is called with, or the script's ``sys.argv[1:]``.
        gpu: name from the catalogue, e.g. ``a100-40gb`` (the default), or a description.
        capability: compute capability, e.g. ``9.0``, of a GPU that the catalogue lacks.
        memory_bytes: its memory.
        multiprocessors: its number of streaming multiprocessors.
        gpus: equal GPUs in the machine.
        outside_bytes: bytes outside PyTorch's allocator; a stated range where it is left out.
        largest_workspace: whether cuDNN and cuFFT ask for their largest workspace, not for none.
        steps: end the script after this many optimizer steps.
        snapshot: file to write PyTorch's memory snapshot to.
        answers: what reads of GPU values get instead of zero: ``FILE:LINE`` to a number, ``*``
            for all others.
        world_size: pretend this many ranks, of which ``rank`` runs here, with PyTorch's fake
            process group.
        rank: this rank.
        deadline_seconds: end the script after so long.
        environment: environment variables in addition to this process's.
        module: whether ``target`` is a module's name, as for ``python -m``.
        quiet: whether to hide what the script prints.
        **named: more of what a function is called with.

    Returns:
        The report; ``returned`` holds what a function returned, as JSON.

    Raises:
        DryRunUnavailableError: PyTorch is no CUDA build, or there is no C compiler.
        DryRunError: an argument is wrong.
        GpuError: no such GPU.

    """
    if not isinstance(gpu, PretendedGpu):
        gpu = pretended_gpu(
            gpu,
            capability=capability,
            memory_bytes=memory_bytes,
            multiprocessors=multiprocessors,
            count=gpus,
            outside_bytes=outside_bytes,
            largest_workspace=largest_workspace,
        )
    with tempfile.TemporaryDirectory(prefix="harness-dry-run-") as folder:
        kind, text, main = "module" if module else "script", str(target), None
        if callable(target):
            kind, text = "function", str(Path(folder) / "function.pickle")
            Path(text).write_bytes(pickle.dumps((target, arguments, named)))
            main = _script_of(target)
            arguments = ()
        request = Request(
            gpu=gpu,
            kind=kind,
            target=text,
            arguments=tuple(map(str, arguments)),
            steps=steps,
            snapshot=None if snapshot is None else Path(snapshot),
            answers=answers or {},
            world_size=world_size,
            rank=rank,
            deadline_seconds=deadline_seconds,
            environment=environment or {},
            main=main,
            quiet=quiet,
        )
        return run(request, Path(folder))


def _script_of(function: Callable[..., object]) -> str | None:
    """Return the script that a function of ``__main__`` was defined in."""
    if getattr(function, "__module__", None) != "__main__":
        return None
    file = getattr(sys.modules["__main__"], "__file__", None)
    if file is None:
        raise DryRunError("function: defined in an interactive session; put it into a file")
    return str(file)


def run(request: Request, folder: Path) -> DryRunReport:
    """Run a request; ``folder`` holds what the processes exchange."""
    _check(request)
    torch = torch_build()
    stub = build(torch)
    status, result, job = (folder / name for name in ("status", "result.json", "job.json"))
    status.write_bytes(bytes(SIZE_BYTES))
    job.write_bytes(msgspec.json.encode(_job(request, result)))
    output = subprocess.DEVNULL if request.quiet else None
    begin = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "harness.dry_run.child", str(job)],
        env=_environment(request, torch, stub, status),
        start_new_session=True,
        stdout=output,
        stderr=output,
    )
    late = _wait(process, request.deadline_seconds)
    seconds = time.monotonic() - begin
    page = StatusPage.read(status)
    inside = None
    if result.exists():
        inside = msgspec.json.decode(result.read_bytes(), type=ChildResult)
    report = _report(request, inside, page, process.returncode, late, seconds)
    return _noting_kernels(report, request.gpu, torch.architectures())


def _check(request: Request) -> None:
    """Refuse what cannot be run.

    Raises:
        DryRunError: an argument is wrong.

    """
    if request.kind == "script" and not Path(request.target).is_file():
        raise DryRunError(f"script: no such file: {request.target}")
    if request.steps is not None and request.steps < 1:
        raise DryRunError(f"steps must be at least 1, got {request.steps}")
    if request.world_size is not None and not 0 <= request.rank < request.world_size:
        raise DryRunError(
            f"rank must be between 0 and {request.world_size - 1}, got {request.rank}"
        )


def _job(request: Request, result: Path) -> Job:
    return Job(
        kind=request.kind,  # type: ignore[arg-type]
        target=request.target,
        arguments=request.arguments,
        result=str(result),
        snapshot=None if request.snapshot is None else str(request.snapshot.resolve()),
        steps=request.steps,
        main=request.main,
        answers=dict(request.answers),
        world_size=request.world_size,
        rank=request.rank,
        parent_pid=os.getpid(),
    )


def _environment(request: Request, torch: TorchBuild, stub: Path, status: Path) -> dict[str, str]:
    """Return the child's environment: the stub is loaded before every other library."""
    harness = str(Path(__file__).parents[2])
    return {
        **os.environ,
        **(
            {}
            if request.world_size is None
            else variables(request.rank, request.world_size, request.gpu.count)
        ),
        **request.environment,
        **request.gpu.variables(torch.architectures()),
        "HARNESS_DRY_RUN_STATUS": str(status),
        "LD_PRELOAD": joined(preloaded(stub), "LD_PRELOAD"),
        "LD_LIBRARY_PATH": joined(str(stub), "LD_LIBRARY_PATH"),
        "PYTHONPATH": joined("", "PYTHONPATH", harness),
        "PYTHONUNBUFFERED": "1",
    }


def _wait(process: "subprocess.Popen[bytes]", deadline_seconds: float | None) -> bool:
    """Wait for the child, hand signals on to it, leave nothing of it running.

    Returns:
        Whether the deadline passed.

    """
    late = False
    with _handing_on(process):
        try:
            process.wait(deadline_seconds)
        except subprocess.TimeoutExpired:
            late = True
            _signal(process, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS)
        finally:
            # The child leads a session of its own, so this ends its workers too.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return late


@contextlib.contextmanager
def _handing_on(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Send the child what interrupts or ends this process, and go on waiting for its report."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def hand_on(number: int, frame: FrameType | None) -> None:
        del frame
        _signal(process, number)

    before = {n: signal.signal(n, hand_on) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _signal(process: "subprocess.Popen[bytes]", number: int) -> None:
    """Signal the script's own process, as a terminal or a scheduler would."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, number)


_OUTCOMES: Mapping[str, Outcome] = {
    "ok": "ok",
    "stopped": "ok",
    "oom": "oom",
    "error": "error",
    "interrupted": "killed",
}


def _report(
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
        rank=request.rank if request.world_size is not None else None,
        world_size=request.world_size,
        environment={
            **(inside.environment if inside else {}),
            "device": f"dry run, {gpu.name}",
        },
        returned=inside.returned if inside else None,
    )


def _noting_kernels(
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
