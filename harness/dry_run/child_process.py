"""The process of a dry run from outside: started, waited for, and ended with all it started."""

import contextlib
import dataclasses
import fcntl
import math
import os
import pickle
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import msgspec

from harness.dry_run.assemble_report import Ending, assemble_report
from harness.dry_run.build import build
from harness.dry_run.dry_run_report import ChildResult, DryRunReport
from harness.dry_run.dry_run_request import Request
from harness.dry_run.fake_ranks import variables
from harness.dry_run.for_workers import pretending
from harness.dry_run.kept_files import kept_files
from harness.dry_run.status_page import SIZE_BYTES, StatusPage
from harness.dry_run.supervisor import KILL
from harness.dry_run.toolchain import DryRunUnavailableError, TorchBuild, torch_build
from harness.measurement.process.start_child import own_interpreter

GRACE_SECONDS = 30.0
"""How long a script that is to end has to clean up and its report to be written."""
SHORT_GRACE_SECONDS = 5.0
"""The same after a second signal; a third one ends it at once."""
_PREFIX = "harness-dry-run-"
_OWNER = "owner"
"""A file that is locked as long as the dry run's process lives, whoever can see that process."""


def run(request: Request, folder: Path) -> DryRunReport:
    """Run a request; ``folder`` holds what the processes exchange."""
    torch = torch_build()
    stub = build(torch)
    status, result, job = (folder / name for name in ("status", "result.json", "job.pickle"))
    status.write_bytes(bytes(SIZE_BYTES))
    for kind in ("new", "gone", "made"):
        (folder / "files" / kind).mkdir(parents=True)
    output = subprocess.DEVNULL if request.quiet else None
    begin = time.monotonic()
    lifeline, held = _pipe()
    with status.open("rb") as page:  # stays readable if the script empties the temporary folder
        try:
            snapshot = request.snapshot and request.snapshot.resolve()
            sent = dataclasses.replace(
                request, result=str(result), lifeline=lifeline, snapshot=snapshot
            )
            job.write_bytes(pickle.dumps(sent))
            process = subprocess.Popen(
                own_interpreter("harness.dry_run.child", str(job)),
                env=_environment(request, torch, stub, folder),
                start_new_session=True,
                pass_fds=(lifeline,),
                stdout=output,
                stderr=output,
            )
            os.close(lifeline)
            stops = _wait(process, request.deadline_seconds)
        finally:
            os.close(held)
        if process.returncode == -signal.SIGKILL:  # perhaps the supervisor itself
            end_processes_of(folder)
        seen = StatusPage.read(page.read())
    seconds = time.monotonic() - begin
    inside = ChildResult(ended="lost")
    if result.exists():
        inside = msgspec.json.decode(result.read_bytes(), type=ChildResult)
    if inside.ended == "not loaded" or (not seen.loaded and process.returncode >= 0):
        raise DryRunUnavailableError(
            f"the stub was not loaded from {stub}: the dynamic linker does not preload it (its"
            " message is above), so no GPU was pretended and the script was not run"
        )
    ending = Ending(
        code=process.returncode,
        late=stops.late,
        signal=stops.numbers[0] if stops.numbers else None,
        seconds=seconds,
    )
    report = assemble_report(request, inside, seen, ending, torch.architectures())
    return msgspec.structs.replace(report, kept_files=kept_files(folder / "files"))


def _pipe() -> tuple[int, int]:
    """Return a pipe that takes no number of a standard stream, should one be closed."""
    ends = os.pipe()
    high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 3) for end in ends)
    for end in ends:
        os.close(end)
    return high[0], high[1]


def _environment(request: Request, torch: TorchBuild, stub: Path, folder: Path) -> dict[str, str]:
    """Return the child's environment: the stub is loaded before every other library."""
    return {
        **os.environ,
        **variables(request.rank, request.world_size, request.gpu.count),
        **request.environment,
        **pretending(request.gpu, torch, stub),
        "HARNESS_DRY_RUN_STATUS": str(folder / "status"),
        **({} if request.write_files else {"HARNESS_DRY_RUN_FILES": str(folder / "files")}),
        "PYTHONUNBUFFERED": "1",
    }


@dataclass(kw_only=True)
class _Stops:
    """Requests to end the script: signals, or its deadline."""

    numbers: list[int] = field(default_factory=list)
    kill_at: float = math.inf
    late: bool = False

    def allow(self, seconds: float) -> None:
        """Have the script killed after so long, unless it is to be killed earlier."""
        self.kill_at = min(self.kill_at, time.monotonic() + seconds)


def _wait(process: "subprocess.Popen[bytes]", deadline_seconds: float | None) -> _Stops:
    """Wait for the child, hand signals on to it; its supervisor leaves nothing of it running."""
    stops = _Stops()
    deadline = time.monotonic() + (math.inf if deadline_seconds is None else deadline_seconds)
    try:
        with _handing_on(process, stops):
            while (now := time.monotonic()) < stops.kill_at:
                if now >= deadline and not stops.late:
                    stops.late = True
                    stops.allow(GRACE_SECONDS)
                    _signal(process, signal.SIGINT)
                end = stops.kill_at if stops.late else min(deadline, stops.kill_at)
                with contextlib.suppress(subprocess.TimeoutExpired):  # a signal may set an end
                    process.wait(min(0.2, end - now))
                    break
    finally:
        if process.poll() is None:
            _signal(process, KILL)
            try:
                process.wait(SHORT_GRACE_SECONDS + GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    return stops


@contextlib.contextmanager
def _handing_on(process: "subprocess.Popen[bytes]", stops: _Stops) -> Iterator[None]:
    """Send the child what interrupts or ends this process, and go on waiting for its report."""

    def hand_on(number: int, frame: FrameType | None) -> None:
        del frame
        stops.numbers.append(number)
        if len(stops.numbers) > 1:
            stops.allow(SHORT_GRACE_SECONDS if len(stops.numbers) == 2 else 0.0)
        elif number != signal.SIGINT:
            stops.allow(GRACE_SECONDS)
        _signal(process, number)

    numbers = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        numbers.remove(signal.SIGHUP)
    if threading.current_thread() is not threading.main_thread():
        numbers.clear()
    before = {number: signal.signal(number, hand_on) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _signal(process: "subprocess.Popen[bytes]", number: int) -> None:
    """Signal the script's own process, as a terminal or a scheduler would."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, number)


@contextlib.contextmanager
def run_folder() -> Iterator[Path]:
    """Make a folder for what the processes of a dry run exchange, and remove it at the end."""
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
