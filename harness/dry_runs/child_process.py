"""Starts a dry run's process, waits for its end, and ends all processes of the script."""

import contextlib
import dataclasses
import fcntl
import os
import pickle
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

import msgspec

from harness.dry_runs.assemble_report import assemble_report
from harness.dry_runs.build import build, preloaded
from harness.dry_runs.child_result import ChildResult
from harness.dry_runs.computing import compute_variables
from harness.dry_runs.dry_run_report import DryRunReport, Files
from harness.dry_runs.dry_run_request import (
    JOB,
    MODE,
    PROCESSES,
    RESULT,
    RESUMED,
    SNAPSHOT,
    UNSAFE,
    Request,
)
from harness.dry_runs.file_layer import NO_SPACE, WAYS_OUT, Layers
from harness.dry_runs.host_memory import UNSEEN
from harness.dry_runs.layer_size import TOO_LARGE, keep_room
from harness.dry_runs.nvidia_smi import folder_of_program
from harness.dry_runs.own_code import INDUCTOR_CACHE
from harness.dry_runs.pretended_environment import VISIBLE, joined, pretending
from harness.dry_runs.pretended_gpu import refuse_unfollowed
from harness.dry_runs.ranks import variables
from harness.dry_runs.run_folders import end_processes_of, layer_folders, room_for_files
from harness.dry_runs.status_page import STATUS, StatusPage
from harness.dry_runs.toolchain import DryRunUnavailableError, TorchBuild, torch_build
from harness.dry_runs.trial_values import FIRST
from harness.dry_runs.written_files import keep, put_back, written_files
from harness.processes.start_child import own_interpreter
from harness.schema.run_outcome import Outcome

_LOOK_SECONDS = 0.05
_LEAST_ROOM_BYTES = 16 << 20
"""A folder with less room than this is called full."""
RESUMED_FROM = "the second start read "


def run(request: Request, folder: Path, stop: threading.Event | None = None) -> DryRunReport:
    """Run a request.

    Args:
        request: request with the code to run and the pretended GPU.
        folder: folder for the files that the processes exchange.
        stop: event; setting this event ends the run.
    """
    torch = torch_build()
    stub = build(torch)
    environment = _environment(request, torch, stub, folder)
    layers = _layers(request, folder, Path(environment[INDUCTOR_CACHE]).parent, stub)
    status = folder / STATUS
    with room_for_files():
        status.write_bytes(bytes(StatusPage()))
        (folder / PROCESSES).mkdir(exist_ok=True)
        folder_of_program(folder / "bin")
        keep_room(folder)
    begin = time.monotonic()
    end_at = None if request.deadline_seconds is None else begin + request.deadline_seconds
    with status.open("rb") as page:  # stays readable if the script empties the temporary folder
        sent = dataclasses.replace(request, end_at=end_at)
        ended = _run_child(sent, folder, layers, environment, stop)
        seen = StatusPage.from_buffer_copy(page.read())
    if not seen.loaded and ended.code >= 0:
        raise DryRunUnavailableError(
            f"the stub was not loaded from {stub}: the dynamic linker does not preload it (its"
            " message is above), so no GPU was pretended and the script was not run"
        )
    if (folder / UNSAFE).exists():
        if any(os.strerror(number) in (folder / UNSAFE).read_text() for number in NO_SPACE):
            disks = sorted({one.parent.parent for one in layers.folders})
            full = [str(one) for one in disks if shutil.disk_usage(one).free < _LEAST_ROOM_BYTES]
            places = ", ".join(full or map(str, disks))
            raise DryRunUnavailableError(
                f"no space is left for the files of a run in {places}: make room there, or set "
                "TMPDIR to a folder with room"
            )
        raise DryRunUnavailableError(
            "the kernel can neither make a layer of files nor lock them"
            f" ({(folder / UNSAFE).read_text()}), so the script was not run: {WAYS_OUT}"
        )
    inside, result = ChildResult(ended="lost"), folder / RESULT
    if result.exists():
        inside = msgspec.json.decode(result.read_bytes(), type=ChildResult)
    report = assemble_report(
        request,
        folder,
        inside,
        seen,
        torch.architectures(),
        code=ended.code,
        late=end_at is not None and ended.at >= end_at,
        received=ended.signals[0] if ended.signals else None,
        seconds=ended.at - begin,
    )
    if _hides_all(request.gpu.count):
        report = report.with_note(
            f"CUDA_VISIBLE_DEVICES={os.environ[VISIBLE]!r} was left out: it hides every GPU"
        )
    if (folder / TOO_LARGE).exists():
        why = (folder / TOO_LARGE).read_text()
        report = msgspec.structs.replace(report, outcome=Outcome.KILLED, evidence=why, fit=None)
    if (folder / RESUMED).exists():
        report = report.with_note(_resumed_from(folder / RESUMED))
    if (folder / UNSEEN).exists():
        names = (folder / UNSEEN).read_text()
        report = report.with_note(
            f"{names}: not under the dry run (is it linked statically?), and opened a real GPU"
        )
    if request.snapshot is not None and (folder / SNAPSHOT).exists():
        report = _snapshot_moved(report, folder / SNAPSHOT, request.snapshot)
    return _with_files(report, request, folder, layers, inside.runner_files)


@dataclasses.dataclass(frozen=True)
class _Ended:
    """Exit code and end time of a child process, and the signals passed on to the process."""

    code: int
    at: float
    signals: list[int]


def _run_child(
    request: Request,
    folder: Path,
    layers: Layers,
    environment: dict[str, str],
    stop: threading.Event | None,
) -> _Ended:
    """Start a dry run's process; wait until the process and all its descendants have ended."""
    job, output = folder / JOB, subprocess.DEVNULL if request.quiet else None
    lifeline, held = _pipe()
    own_input = -1 if request.is_first else _input_of_further_run(request.input_begin)
    try:
        with room_for_files():
            job.write_bytes(pickle.dumps((dataclasses.replace(request, lifeline=lifeline), layers)))
        process = subprocess.Popen(
            own_interpreter("harness.dry_runs.child", str(job)),
            env=environment,
            start_new_session=True,
            pass_fds=(lifeline,),
            stdin=None if own_input < 0 else own_input,
            stdout=output,
            stderr=output,
        )
        os.close(lifeline)
        with _handing_on(process) as signals:
            while stop is not None and process.poll() is None and not stop.is_set():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK_SECONDS)
            if stop is not None and stop.is_set():
                held = _closed(held)
            process.wait()
        end = time.monotonic()
    finally:
        _closed(held)  # the supervisor ends what is left
        _closed(own_input)
    if process.returncode == -signal.SIGKILL:  # perhaps the supervisor itself
        end_processes_of(folder)
    return _Ended(process.returncode, end, signals)


def _input_of_further_run(begin: int | None) -> int:
    """Return a descriptor of the user's input; the first run moves the user's own descriptor."""
    if begin is None:
        return os.open(os.devnull, os.O_RDONLY)
    descriptor = os.open("/proc/self/fd/0", os.O_RDONLY)
    os.lseek(descriptor, begin, os.SEEK_SET)
    return descriptor


def _closed(descriptor: int) -> int:
    """Close a file descriptor unless the descriptor is -1; return -1."""
    if descriptor >= 0:
        os.close(descriptor)
    return -1


def _layers(request: Request, folder: Path, compiled: Path, stub: Path) -> Layers:
    """Return the description of a run's file layers."""
    compiled.mkdir(parents=True, exist_ok=True)
    return Layers(
        folders=layer_folders(folder),
        earlier=request.earlier,
        through=(compiled,),
        stub=stub,
        preloaded=tuple(library.name for library in preloaded(stub)),
    )


def _snapshot_moved(report: DryRunReport, made: Path, wanted: Path) -> DryRunReport:
    """Move the snapshot to the file that the user named; add a note to the report on failure."""
    try:
        shutil.move(made, wanted)
    except OSError as error:
        return report.with_note(f"the snapshot was not written: {error}")
    return report


def _resumed_from(sign: Path) -> str:
    """Return a sentence about the first start's files that the script's second start read."""
    first, *more = sign.read_text().splitlines()
    read = f"{first} and {len(more)} more" if more else first
    return f"{RESUMED_FROM}{read}, which the first one had written"


def _with_files(
    report: DryRunReport,
    request: Request,
    folder: Path,
    layers: Layers,
    runner_files: Sequence[str],
) -> DryRunReport:
    """Add the list of written files to the report; copy the files that the user keeps."""
    if not (folder / MODE).exists():  # ended before it began
        return report
    mode = (folder / MODE).read_text()
    refused = folder / "refused"
    if mode != "layer":
        why = refused.read_text() if refused.exists() else None
        files = Files(mode=mode, refused=why)  # type: ignore[arg-type]
        return msgspec.structs.replace(report, files=files)
    written = sorted(
        (one for place in layers.folders for one in written_files(place)),
        key=lambda one: (-(one.size_bytes or 0), one.path),
    )
    kept, notes = None, report.notes
    if runner_files and request.trial == FIRST:
        back = put_back(layers.folders, runner_files)
        written = [one for one in written if one.path not in back]
    if request.keep_files is not None:
        try:
            keep(layers.folders, request.keep_files, Path.cwd())
            kept = str(request.keep_files)
        except OSError as error:
            why = error.strerror or str(error)
            notes = (*notes, f"not all files were copied to {request.keep_files}: {why}")
    files = Files(mode="layer", written=tuple(written), kept=kept)
    return msgspec.structs.replace(report, files=files, notes=notes)


def _hides_all(count: int) -> bool:
    """Return whether the user's CUDA_VISIBLE_DEVICES would hide all pretended GPUs."""
    first = os.environ.get(VISIBLE, "0").partition(",")[0].strip()
    return not first.startswith("GPU-") and not (first.isdecimal() and int(first) < count)


def _pipe() -> tuple[int, int]:
    """Return a pipe whose descriptors are 3 or higher, even if a standard stream is closed."""
    ends = os.pipe()
    reads, writes = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 3) for end in ends)
    for end in ends:
        os.close(end)
    return reads, writes


def _environment(request: Request, torch: TorchBuild, stub: Path, folder: Path) -> dict[str, str]:
    """Return the child process's environment variables, including those that preload the stub."""
    refuse_unfollowed({**os.environ, **request.environment}, memory_ends=True)
    inherited = dict(os.environ)
    if _hides_all(request.gpu.count):
        del inherited[VISIBLE]
    return {
        "PYTHONHASHSEED": "0",  # two runs of a script are alike
        "OMP_WAIT_POLICY": "PASSIVE",  # threads of runs side by side spin for each other
        **inherited,
        **variables(request.rank, request.world_size, request.gpu.count),
        **request.environment,
        **pretending(request.gpu, torch, stub),
        **compute_variables(request.compute, request.compute_seconds),
        "HARNESS_DRY_RUN_STATUS": str(folder / STATUS),
        "PATH": joined(str(folder / "bin"), "PATH"),
        "PYTHONUNBUFFERED": "1",
    }


@contextlib.contextmanager
def _handing_on(process: "subprocess.Popen[bytes]") -> Iterator[list[int]]:
    """Pass SIGINT, SIGTERM and SIGHUP on to the child process; yield the received signals."""
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
