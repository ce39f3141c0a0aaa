"""The process of a dry run from outside: started, waited for, and ended with all it started."""

import contextlib
import dataclasses
import fcntl
import os
import pickle
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import msgspec

from harness.dry_runs.assemble_report import StatusPage, assemble_report
from harness.dry_runs.build import build
from harness.dry_runs.dry_run_report import ChildResult, DryRunReport
from harness.dry_runs.dry_run_request import Request
from harness.dry_runs.for_workers import VISIBLE, joined, pretending
from harness.dry_runs.kept_files import kept_files
from harness.dry_runs.nvidia_smi import folder_of_program
from harness.dry_runs.pretended_gpu import refuse_unfollowed
from harness.dry_runs.ranks import variables
from harness.dry_runs.toolchain import DryRunUnavailableError, TorchBuild, torch_build
from harness.measurement.process.start_child import own_interpreter

_PREFIX = "harness-dry-run-"
_OWNER = "owner"
"""A file that is locked as long as the dry run's process lives, whoever can see that process."""


def run(request: Request, folder: Path) -> DryRunReport:
    """Run a request; ``folder`` holds what the processes exchange."""
    torch = torch_build()
    stub = build(torch)
    status, result, job = (folder / name for name in ("status", "result.json", "job.pickle"))
    with _room_for_files():
        status.write_bytes(bytes(StatusPage()))
        for kind in ("new", "gone", "made"):
            (folder / "files" / kind).mkdir(parents=True)
        folder_of_program(folder / "bin")
    output = subprocess.DEVNULL if request.quiet else None
    begin = time.monotonic()
    lifeline, held = _pipe()
    end_at = None if request.deadline_seconds is None else begin + request.deadline_seconds
    with status.open("rb") as page:  # stays readable if the script empties the temporary folder
        try:
            snapshot = request.snapshot and request.snapshot.resolve()
            sent = dataclasses.replace(
                request, result=str(result), lifeline=lifeline, end_at=end_at, snapshot=snapshot
            )
            with _room_for_files():
                job.write_bytes(pickle.dumps(sent))
            process = subprocess.Popen(
                own_interpreter("harness.dry_runs.child", str(job)),
                env=_environment(request, torch, stub, folder),
                start_new_session=True,
                pass_fds=(lifeline,),
                stdout=output,
                stderr=output,
            )
            os.close(lifeline)
            with _handing_on(process) as signals:
                process.wait()
            end = time.monotonic()
        finally:
            os.close(held)  # the supervisor ends what is left
        if process.returncode == -signal.SIGKILL:  # perhaps the supervisor itself
            end_processes_of(folder)
        seen = StatusPage.from_buffer_copy(page.read())
    inside = ChildResult(ended="lost")
    if result.exists():
        inside = msgspec.json.decode(result.read_bytes(), type=ChildResult)
    if not seen.loaded and process.returncode >= 0:
        raise DryRunUnavailableError(
            f"the stub was not loaded from {stub}: the dynamic linker does not preload it (its"
            " message is above), so no GPU was pretended and the script was not run"
        )
    report = assemble_report(
        request,
        folder,
        inside,
        seen,
        torch.architectures(),
        code=process.returncode,
        late=end_at is not None and end >= end_at,
        received=signals[0] if signals else None,
        seconds=end - begin,
    )
    if _hides_all(request.gpu.count):
        shown = f"CUDA_VISIBLE_DEVICES={os.environ[VISIBLE]!r} was left out: it hides every GPU"
        report = msgspec.structs.replace(report, notes=(*report.notes, shown))
    return msgspec.structs.replace(report, kept_files=kept_files(folder / "files"))


def _hides_all(count: int) -> bool:
    """Return whether this process's environment, meant for real GPUs, hides the pretended ones."""
    first = os.environ.get(VISIBLE, "0").partition(",")[0].strip()
    return not first.startswith("GPU-") and not (first.isdecimal() and int(first) < count)


def _pipe() -> tuple[int, int]:
    """Return a pipe that takes no number of a standard stream, should one be closed."""
    ends = os.pipe()
    reads, writes = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 3) for end in ends)
    for end in ends:
        os.close(end)
    return reads, writes


def _environment(request: Request, torch: TorchBuild, stub: Path, folder: Path) -> dict[str, str]:
    """Return the child's environment: the stub is loaded before every other library."""
    refuse_unfollowed({**os.environ, **request.environment}, memory_ends=True)
    inherited = dict(os.environ)
    if _hides_all(request.gpu.count):
        del inherited[VISIBLE]
    return {
        "PYTHONHASHSEED": "0",  # two runs of a script are alike
        **inherited,
        **variables(request.rank, request.world_size, request.gpu.count),
        **request.environment,
        **pretending(request.gpu, torch, stub),
        "HARNESS_DRY_RUN_STATUS": str(folder / "status"),
        **({} if request.write_files else {"HARNESS_DRY_RUN_FILES": str(folder / "files")}),
        "PATH": joined(str(folder / "bin"), "PATH"),
        "PYTHONUNBUFFERED": "1",
    }


@contextlib.contextmanager
def _handing_on(process: "subprocess.Popen[bytes]") -> Iterator[list[int]]:
    """Send the child what interrupts or ends this process, and go on waiting for its report."""
    handed_on: list[int] = []

    def hand_on(number: int, frame: FrameType | None) -> None:
        del frame
        handed_on.append(number)
        process.send_signal(number)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, hand_on) for number in numbers if is_main}
    try:
        yield handed_on
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _room_for_files() -> Iterator[None]:
    """Say in one line that the folder for temporary files is full, or that there is none."""
    try:
        yield
    except OSError as error:
        raise DryRunUnavailableError(
            f"a dry run needs a folder for temporary files: {error.strerror or error}; set TMPDIR"
        ) from error


@contextlib.contextmanager
def run_folder() -> Iterator[Path]:
    """Make a folder for what the processes of a dry run exchange, and remove it at the end."""
    with _room_for_files():
        sweep()
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        with (folder / "new").open("w") as owner:
            fcntl.flock(owner, fcntl.LOCK_EX)
            (folder / "new").rename(folder / _OWNER)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep() -> None:
    """End and remove what is left of dry runs whose process has gone without cleaning up."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid != os.geteuid() or folder.is_symlink():
                continue
            with (folder / _OWNER).open() as owner:
                fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
                end_processes_of(folder)
                shutil.rmtree(folder, ignore_errors=True)


def end_processes_of(folder: Path) -> None:
    """End the processes that a dry run has started: its folder is in their environment."""
    wanted = b"\0HARNESS_DRY_RUN_STATUS=" + os.fsencode(folder) + b"/"
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if wanted in b"\0" + environment.read_bytes():
                os.kill(int(environment.parent.name), signal.SIGKILL)
