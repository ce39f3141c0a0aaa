"""The end of a script's process: the result is written, whatever the end is."""

import atexit
import contextlib
import ctypes
import os
import platform
import signal
import sys
import threading
import traceback
from pathlib import Path
from types import FrameType

import msgspec

from harness.dry_run.compiled import Compilations
from harness.dry_run.dry_run_report import ChildResult
from harness.dry_run.dry_run_request import Request
from harness.dry_run.pretended_gpu import workspace_bytes
from harness.dry_run.recording import Recording
from harness.dry_run.value_reads import ValueReads

_THREADS_SECONDS = 10.0
"""How long threads may go on after enough steps."""


class Ending:
    """Writes the result, once, whichever comes first: the interpreter's end or a signal."""

    def __init__(self, job: Request, reads: ValueReads, recording: Recording) -> None:
        self._job = job
        self._reads = reads
        self._recording = recording
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self.ended = "error"
        self.evidence: str | None = "the script's end was not seen"
        self.returned: object = None
        self.compilations: Compilations | None = None
        self._late: tuple[str, str] | None = None

    def write(self) -> bool:
        """Write the result, and return True; False where another thread does: wait for that one.

        A process that the script forked comes here too, and has none.
        """
        if os.getpid() != self._pid:
            return True
        if not self._lock.acquire(blocking=False):
            return False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with contextlib.suppress(ValueError):  # in another thread than the main one
                signal.signal(number, signal.SIG_IGN)
        with contextlib.suppress(Exception):  # it may be closed, or no file
            sys.stdout.flush()
        if self.ended in ("ok", "stopped") and self._late is not None:
            self.ended, self.evidence = self._late
        ctypes.CDLL(None).pretend_files_off()
        notes = self._recording.notes
        try:
            devices, refused = self._recording.finish(self._job.snapshot)
        except Exception as error:
            devices, refused = [], []
            notes.append(f"what the allocator did cannot be told: {first_line(error)}")
        result = ChildResult(
            ended=self.ended,  # type: ignore[arg-type]
            evidence=self.evidence,
            devices=tuple(devices),
            out_of_memory=tuple(refused),
            value_reads=self._reads.places(),
            notes=tuple(notes),
            optimizer_steps=self._recording.steps,
            workspace_bytes=workspace_bytes(),
            compiled=None if self.compilations is None else self.compilations.compiled(),
            environment=_environment(),
            returned=self.returned,
        )
        write_result(result, Path(self._job.result))
        return True

    def on_late_error(self, error: BaseException | None) -> None:
        """Note an error that ends a thread or a function at the exit, which Python only prints."""
        if error is not None and is_out_of_memory(error):
            self._late = "oom", first_line(error)
        elif isinstance(error, KeyboardInterrupt):
            self._late = "interrupted", "interrupted"

    def on_terminate(self, number: int, frame: FrameType | None) -> None:
        """End at once, as Python does at this signal, but with a result."""
        del frame
        self.ended, self.evidence = "interrupted", "interrupted"
        if self.write():
            os._exit(128 + number)

    def listen(self) -> None:
        """Have this called at the exit, last of all, at signals, and for errors of threads."""
        atexit.register(self.write)
        signal.signal(signal.SIGTERM, self.on_terminate)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self.on_terminate)
        # A shell lets a job in the background ignore Ctrl-C; the parent hands it on all the same.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        in_thread, unraisable = threading.excepthook, sys.unraisablehook

        def on_thread_error(seen: threading.ExceptHookArgs) -> None:
            in_thread(seen)
            self.on_late_error(seen.exc_value)

        def on_unraisable(seen: "sys.UnraisableHookArgs") -> None:
            unraisable(seen)
            self.on_late_error(seen.exc_value)

        threading.excepthook, sys.unraisablehook = on_thread_error, on_unraisable

    def soon(self) -> None:
        """End after enough steps even if a thread of the script does not."""

        def end() -> None:
            note = "threads of the script were still running"
            if not self._lock.locked():
                self._recording.notes.append(note)
            if self.write():
                os._exit(0)

        timer = threading.Timer(_THREADS_SECONDS, end)
        timer.daemon = True
        timer.start()


def write_result(result: ChildResult, path: Path) -> None:
    """Write the result, in a folder that the script may have removed."""
    try:
        data = msgspec.json.encode(result)
    except UnicodeEncodeError:  # names of files that are not text
        data = msgspec.json.encode(_as_text(msgspec.to_builtins(result)))
    path.parent.mkdir(exist_ok=True)
    written = path.with_suffix(".part")
    written.write_bytes(data)
    written.rename(path)


def _as_text(value: object) -> object:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_as_text(key): _as_text(item) for key, item in value.items()}
    return [_as_text(item) for item in value] if isinstance(value, (list, tuple)) else value


def first_line(error: BaseException) -> str:
    """Return an error's type and the first line of its message, without the notes added to it."""
    whole = traceback.TracebackException.from_exception(error)
    vars(whole)["__notes__"] = None
    return list(whole.format_exception_only())[-1].strip().partition("\n")[0]


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether PyTorch found no memory on the GPU."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.OutOfMemoryError)


def _environment() -> dict[str, str]:
    facts = {"python": platform.python_version(), "platform": platform.platform()}
    torch = sys.modules.get("torch")
    if torch is not None:
        facts |= {"torch": str(torch.__version__), "cuda": str(torch.version.cuda)}
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "CUBLAS_WORKSPACE_CONFIG"):
        if name in os.environ:
            facts[name] = os.environ[name]
    return facts
