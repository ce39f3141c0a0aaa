"""Child process of a dry run; the process runs the user's code and writes the result.

The user's code sees the same ``__main__``, ``sys.argv``, first entry of ``sys.path`` and traceback
as under ``python script.py`` or ``python -m module``. The child writes its result when the
interpreter ends, after the script's threads and exit functions have ended.
"""

import atexit
import contextlib
import ctypes
import faulthandler
import functools
import os
import pickle
import random
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import msgspec

from harness.dry_runs import light_start, real_ranks
from harness.dry_runs.autotuning import watch_unmeasured
from harness.dry_runs.child_result import recorded, write_result
from harness.dry_runs.dry_run_request import (
    MODE,
    PROCESSES,
    RESULT,
    RESUMED,
    UNSAFE,
    USED,
    Request,
)
from harness.dry_runs.file_layer import Layers
from harness.dry_runs.host_growth import anonymous_bytes
from harness.dry_runs.host_memory import ENDING
from harness.dry_runs.library_notes import library_notes
from harness.dry_runs.light_start import SEED, watch_groups
from harness.dry_runs.notebook import Notebook
from harness.dry_runs.opened_files import note_reads
from harness.dry_runs.own_code import INDUCTOR_CACHE, is_own
from harness.dry_runs.peak_recording import EnoughStepsError, PeakRecording
from harness.dry_runs.pretended_environment import RECORDER
from harness.dry_runs.ranks import end_ranks, host_collectives, pretend_ranks
from harness.dry_runs.recording import recording_for
from harness.dry_runs.refused_writes import move_between_layers, tell_writes, why_refused
from harness.dry_runs.run_code import run_code
from harness.dry_runs.runner_table import RunnerTable
from harness.dry_runs.started_process import StartedProcess
from harness.dry_runs.supervisor import FORWARDED, supervised, unblock_signals
from harness.dry_runs.value_reads import ValueReads
from harness.prediction.after_import import after_import
from harness.processes.start_child import die_first_for_memory

_THREADS_SECONDS = 10.0
"""Time that the script's threads may still run after the last requested step, in seconds."""
_LEFT_OUT = "harness.dry_runs.left_out_values"
"""Module that needs PyTorch, so it is only loaded after the script has imported PyTorch."""


class Ending:
    """Writes the child process's result once, when the interpreter ends or a signal arrives."""

    def __init__(
        self, job: Request, place: Path, reads: ValueReads, recording: PeakRecording
    ) -> None:
        self._job = job
        self._place = place
        self._reads = reads
        self._recording = recording
        self._table = RunnerTable(
            reads, recording, place / PROCESSES, unknown_passes=job.unknown_passes
        )
        self.notebook = Notebook(recording)
        self._compilations = watch_unmeasured(_tell)
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self.ended = "error"
        self.evidence: str | None = "the script's end was not seen"
        self.exit_code: int | None = None
        self.returned: object = None
        self._late: tuple[str, str] | None = None

    def write(self) -> bool:
        """Write the result and return True; return False if another thread is writing it."""
        if os.getpid() != self._pid:  # a process that the script forked
            return True
        if not self._lock.acquire(blocking=False):
            return False
        for number in FORWARDED:
            with contextlib.suppress(ValueError):  # in another thread than the main one
                signal.signal(number, signal.SIG_IGN)
        with contextlib.suppress(Exception):  # it may be closed, or no file
            sys.stdout.flush()
        if self.ended in ("ok", "stopped") and self._late is not None:
            self.ended, self.evidence = self._late
        with contextlib.suppress(OSError):
            (self._place / ENDING).touch()
        at_end_bytes = anonymous_bytes()
        notes, left_out = self._recording.notes, sys.modules.get(_LEFT_OUT)
        if self._job.world_size is not None and host_collectives():
            notes.setdefault(
                "collectives of host tensors left this rank's own values: each rank was taken to"
                " hold the same, and a sum over ranks is not a sum"
            )
        seen = recorded(self._recording, self._reads)
        result = msgspec.structs.replace(
            seen,
            ended=self.ended,
            evidence=self.evidence,
            exit_code=self.exit_code,
            notes=(
                *library_notes(),
                *seen.notes,
                *(left_out.notes() if left_out else ()),
            ),
            at_end_bytes=at_end_bytes,
            left_out_bytes=left_out.most_left_out() if left_out else 0,
            with_left_out_bytes=left_out.most_with_left_out() if left_out else 0,
            compiled=self._compilations.compiled(),
            tests=self._table.all_tests(),
            runner_files=tuple(self._table.kept.paths),
            cells=self.notebook.cells(),
            freed=self.notebook.freed,
            returned=self.returned,
        )
        write_result(result, self._place, RESULT)
        return True

    def on_late_error(self, error: BaseException | None) -> None:
        """Store an out-of-memory error or Ctrl-C from a thread or from an exit function."""
        if error is not None and is_gpu_out_of_memory(error):
            self._late = "oom", first_line(error)
        elif isinstance(error, KeyboardInterrupt):
            self._late = "interrupted", "interrupted"

    def on_terminate(self, number: int, _: FrameType | None) -> None:
        """Write the result, and end the process at once."""
        self.ended = self.evidence = "interrupted"
        if self.write():
            os._exit(128 + number)

    def in_fork(self) -> None:
        """Restore the default signal handlers in a forked process, such as a worker of a pool."""
        for number in (one for one in FORWARDED if signal.getsignal(one) == self.on_terminate):
            signal.signal(number, signal.SIG_DFL)

    def listen(self) -> None:
        """Register this object for signals, errors in threads, and the interpreter's exit."""
        if self._job.kind == "module":  # which may be a test runner
            self._table.watch()
        atexit.register(end_ranks)  # after the next one
        atexit.register(self.write)
        signal.signal(signal.SIGTERM, self.on_terminate)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self.on_terminate)
        os.register_at_fork(after_in_child=self.in_fork)
        # A shell lets a job in the background ignore Ctrl-C; the parent hands it on all the same.
        signal.signal(signal.SIGINT, signal.default_int_handler)

        def also(hook: Callable[[Any], object], seen: Any) -> None:
            hook(seen)
            self.on_late_error(seen.exc_value)

        threading.excepthook = functools.partial(also, threading.excepthook)
        sys.unraisablehook = functools.partial(also, sys.unraisablehook)

    def soon(self) -> None:
        """End the process ten seconds after the last step, even if script threads still run."""

        def end() -> None:
            if not self._lock.locked():
                self._recording.notes.setdefault("threads of the script were still running")
            if self.write():
                os._exit(0)

        timer = threading.Timer(_THREADS_SECONDS, end)
        timer.daemon = True
        timer.start()


def first_line(error: BaseException) -> str:
    """Return an error's type and the first line of its message, without added notes."""
    whole = traceback.TracebackException.from_exception(error)
    vars(whole)["__notes__"] = None
    return list(whole.format_exception_only())[-1].strip().partition("\n")[0]


def is_gpu_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the GPU is out of memory."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.OutOfMemoryError)


def _print_error(error: BaseException) -> None:
    """Print the traceback as Python does, but start at the first frame of the user's code."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None and is_own(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    traceback.print_exception(type(error), error, trace or error.__traceback__)


def _exit_code(error: SystemExit) -> int:
    return 0 if error.code is None else error.code if isinstance(error.code, int) else 1


def _outcome(error: BaseException | None, *, is_printed: bool = False) -> tuple[str, str | None]:
    """Return the run's outcome and evidence; print the error unless ``is_printed``."""
    if error is None or isinstance(error, EnoughStepsError):
        return ("ok" if error is None else "stopped"), None
    if isinstance(error, SystemExit):
        code = _exit_code(error)
        if code != error.code and error.code is not None:
            with contextlib.suppress(Exception):
                print(error.code, file=sys.stderr)
        return ("error", f"the script exited with code {int(code)}") if code else ("ok", None)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", "interrupted"
    if not is_printed:
        with contextlib.suppress(Exception):  # its standard error may be closed
            _print_error(error)
    said = first_line(error)
    for folder in {os.environ.get(name) for name in (INDUCTOR_CACHE, "TRITON_CACHE_DIR")} - {None}:
        if f"{folder}/" in said:  # a file that was cut, which stays wrong
            said += f"; delete the cache {Path(str(folder)).parent} and run again"
    return ("oom" if is_gpu_out_of_memory(error) else "error"), said


def _tell(line: str) -> None:
    with contextlib.suppress(Exception):  # it may be closed
        print(f"harness dry-run: {line}", file=sys.stderr, flush=True)


def _on_torch(job: Request, recording: PeakRecording, module: Any) -> None:
    """Start recording after the script has imported PyTorch."""
    from harness.dry_runs import left_out_values  # it needs PyTorch

    recording.start(module)
    module.default_generator.manual_seed(SEED)  # before the next line, which looks at it
    left_out_values.leave_values_out()
    if job.world_size is not None:
        pretend_ranks(recording.notes)
    elif module.distributed.is_available():
        watch_groups(module.distributed.distributed_c10d, lambda: real_ranks)


def _share(stub: ctypes.CDLL, job: Request) -> None:
    """Share a file with other runs; if memory is short, the kernel does not end the first run."""
    if not job.is_first:
        die_first_for_memory()
    stub.pretend_share(os.fsencode(job.shared or ""), not job.is_first)


def main() -> int:
    """Run the job in the file that the command line names; return the exit code."""
    file = Path(sys.argv[1])
    job: Request
    layers: Layers
    job, layers = pickle.loads(file.read_bytes())
    stub = ctypes.CDLL(None)
    if not hasattr(stub, "pretend_main"):
        return 1  # which the parent sees by the status page
    os.environ[RECORDER] = light_start.__file__  # for what this process starts, not for itself
    _share(stub, job)
    folders = file.parent, *(one.parent for one in layers.folders)
    supervised(job.lifeline, folders, job.end_at)
    devices = {str(top): top.stat().st_dev for top in Path("/").iterdir() if top.is_dir()}
    try:
        mode, place = layers.enter(file.parent, writes=job.write_files)
    except OSError as refused:
        (file.parent / UNSAFE).write_text(str(refused))
        return 1
    (place / MODE).write_text(mode)
    if mode == "layer":
        move_between_layers(devices)
    elif mode == "read-only":
        tell_writes(_tell, layers.writable(place))
    note_reads(job.resumes_from, place / RESUMED)
    stub.pretend_main()
    with contextlib.suppress(RuntimeError):  # without a standard error
        faulthandler.enable()
    reads = ValueReads(job.answers, trial=job.trial, on_use=(place / USED).touch)
    pid = os.getpid()

    def on_begin() -> None:
        if os.getpid() != pid:  # a process that the script forked uses the GPU
            StartedProcess(place, reads, recording).listen()

    recording = recording_for(job, reads, on_begin, place)
    ending = Ending(job, place, reads, recording)
    ending.listen()
    unblock_signals()

    after_import("torch", functools.partial(_on_torch, job, recording))
    random.seed(0)  # as PyTorch's generator: two runs of a script are alike
    after_import("numpy.random", lambda module: module.seed(0))
    error: BaseException | None = None
    try:
        ending.returned = run_code(job, ending.notebook)
    except BaseException as raised:
        error = raised
    if os.getpid() != pid:  # a process that the script forked came out of its end
        raise error if error is not None else SystemExit(0)
    ending.ended, ending.evidence = _outcome(error, is_printed=ending.notebook.has_printed)
    if isinstance(error, SystemExit):
        ending.exit_code = _exit_code(error) & 0xFF or None
    if why := why_refused(error, mode):
        ending.evidence = f"{ending.evidence}; {why}"
    if ending.ended == "stopped":
        ending.soon()
    return 0 if ending.ended in ("ok", "stopped") else 1
