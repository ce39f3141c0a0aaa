"""The process of a dry run from outside: started, waited for, and ended with all it started."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import msgspec

from harness.dry_run.assemble_report import assemble_report, noting_kernels
from harness.dry_run.build import VALUES, build
from harness.dry_run.dry_run_report import ChildResult, DryRunReport, Job
from harness.dry_run.dry_run_request import Request, check
from harness.dry_run.fake_ranks import variables
from harness.dry_run.for_workers import joined, pretending
from harness.dry_run.known_values import LIBRARY_VARIABLE
from harness.dry_run.status_page import SIZE_BYTES, StatusPage
from harness.dry_run.toolchain import TorchBuild, torch_build

GRACE_SECONDS = 30.0
"""How long an interrupted script has to clean up and its report to be written."""


def run(request: Request, folder: Path) -> DryRunReport:
    """Run a request; ``folder`` holds what the processes exchange."""
    check(request)
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
    report = assemble_report(request, inside, page, process.returncode, late, seconds)
    return noting_kernels(report, request.gpu, torch.architectures())


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
        **pretending(request.gpu, torch, stub),
        "HARNESS_DRY_RUN_STATUS": str(status),
        LIBRARY_VARIABLE: str(stub / VALUES),
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
