"""The process that a dry run happens in: runs the user's code, writes what was seen.

    python -m harness.dry_run.child JOB.json

The code is run as ``python script.py`` or ``python -m module`` would: same ``__main__``, same
``sys.argv``, same first entry of ``sys.path``, same traceback.
"""

import builtins
import contextlib
import ctypes
import faulthandler
import importlib.util
import os
import pickle
import platform
import runpy
import signal
import sys
import sysconfig
import traceback
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, TracebackType

import msgspec

from harness.dry_run.dry_run_report import ChildResult, Job
from harness.dry_run.fake_ranks import pretend_ranks
from harness.dry_run.recording import EnoughStepsError, Recording
from harness.dry_run.value_reads import ValueReads

_HARNESS = str(Path(__file__).parent.parent)
_STANDARD = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))


_TRITON = (f"site-packages{os.sep}triton", f"torch{os.sep}_inductor")
_COMPILED = (
    "Triton, which torch.compile uses, is not pretended;"
    " TORCHDYNAMO_DISABLE=1 runs the model as it is written"
)


def is_own(file: str) -> bool:
    """Return whether a file is PyTorch's, Python's or the harness's, not the user's."""
    if file.startswith("<") or f"{os.sep}torch{os.sep}" in file:
        return True
    inside = file.startswith(_STANDARD) and "site-packages" not in file
    return inside or file.startswith(_HARNESS + os.sep)


class _AfterImport:
    """Calls a function when PyTorch has been imported, before the importer goes on."""

    def __init__(self, name: str, function: Callable[[ModuleType], None]) -> None:
        self._name = name
        self._function = function

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        """Return the spec of the module, with a loader that calls the function."""
        del path, target
        if name != self._name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_call(module: ModuleType) -> None:
                execute(module)
                self._function(module)

            vars(spec.loader)["exec_module"] = execute_and_call
        return spec


def _run(job: Job) -> object:
    """Run what the job names; return what a function returned."""
    sys.argv[:] = [job.target, *job.arguments]
    if job.kind == "script":
        _run_script(Path(job.target))
    elif job.kind == "module":
        sys.path[0] = str(Path.cwd())
        runpy.run_module(job.target, run_name="__main__", alter_sys=True)
    else:
        if job.main is not None:
            _import_main(job.main)
        function, arguments, named = pickle.loads(Path(job.target).read_bytes())
        return msgspec.to_builtins(function(*arguments, **named))
    return None


def _run_script(script: Path) -> None:
    """Execute a file as the module ``__main__``, which stays so until the process ends."""
    main = ModuleType("__main__")
    main.__dict__.update(__file__=str(script), __builtins__=builtins, __cached__=None)
    sys.modules["__main__"] = main
    sys.path[0] = str(script.resolve().parent)
    code = compile(script.read_bytes(), str(script), "exec", dont_inherit=True)
    exec(code, main.__dict__)


def _import_main(script: str) -> None:
    """Import the caller's script, not as ``__main__``, so that its functions are found there."""
    main = ModuleType("__mp_main__")
    main.__dict__.update(runpy.run_path(script, run_name="__mp_main__"))
    sys.modules["__main__"] = sys.modules["__mp_main__"] = main


def _print_error(error: BaseException) -> None:
    """Print the traceback from the user's first frame on, as Python would."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None and is_own(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    traceback.print_exception(type(error), error, trace or error.__traceback__)


def _outcome(error: BaseException | None) -> tuple[str, str | None, int]:
    """Return how the script ended, the evidence, and its exit code."""
    if error is None or isinstance(error, EnoughStepsError):
        return ("ok" if error is None else "stopped"), None, 0
    if isinstance(error, SystemExit):
        code = 0 if error.code is None else error.code if isinstance(error.code, int) else 1
        if code != error.code and error.code is not None:
            print(error.code, file=sys.stderr)
        return ("error", f"the script exited with code {code}", code) if code else ("ok", None, 0)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", "interrupted", 130
    _print_error(error)
    last = traceback.format_exception_only(error)[-1].strip().partition("\n")[0]
    if _is_out_of_memory(error):
        return "oom", last, 1
    if _is_of_triton(error):
        return "unsupported", f"{_COMPILED}; {last}", 1
    return "error", last, 1


def _is_out_of_memory(error: BaseException) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.OutOfMemoryError)


def _is_of_triton(error: BaseException | None) -> bool:
    """Return whether Triton raised the error, or what ``torch.compile`` generates with it."""
    while error is not None:
        files = (frame.filename for frame in traceback.extract_tb(error.__traceback__))
        if any(f"{os.sep}{name}{os.sep}" in file for file in files for name in _TRITON):
            return True
        error = error.__cause__ or error.__context__
    return False


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _on_terminate(number: int, frame: object) -> None:
    del number, frame
    raise KeyboardInterrupt


def _environment() -> dict[str, str]:
    facts = {"python": platform.python_version(), "platform": platform.platform()}
    torch = sys.modules.get("torch")
    if torch is not None:
        facts |= {"torch": str(torch.__version__), "cuda": str(torch.version.cuda)}
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "CUBLAS_WORKSPACE_CONFIG"):
        if name in os.environ:
            facts[name] = os.environ[name]
    return facts


def main() -> int:
    """Run the job of the command line and write its result; return the script's exit code."""
    job = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Job)
    _die_with(job.parent_pid)
    signal.signal(signal.SIGTERM, _on_terminate)
    # A shell lets a job in the background ignore Ctrl-C; the parent hands it on all the same.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    faulthandler.enable()
    reads = ValueReads(job.answers, is_own)
    recording = Recording(reads, is_own, job.steps)

    def on_torch(module: ModuleType) -> None:
        recording.start(module)
        if job.world_size is not None:
            pretend_ranks(recording.notes)

    sys.meta_path.insert(0, _AfterImport("torch", on_torch))
    error: BaseException | None = None
    returned: object = None
    pid = os.getpid()
    try:
        returned = _run(job)
    except BaseException as raised:
        error = raised
    if os.getpid() != pid:  # a process that the script forked came out of its end
        raise error if error is not None else SystemExit(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ended, evidence, code = _outcome(error)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    devices, refused = recording.finish(job.snapshot)
    result = ChildResult(
        ended=ended,  # type: ignore[arg-type]
        evidence=evidence,
        exit_code=code,
        devices=tuple(devices),
        out_of_memory=tuple(refused),
        value_reads=reads.found(),
        notes=tuple(recording.notes),
        optimizer_steps=recording.steps,
        environment=_environment(),
        returned=returned,
    )
    written = Path(job.result + ".part")
    written.write_bytes(msgspec.json.encode(result))
    written.rename(job.result)
    return code


if __name__ == "__main__":
    sys.exit(main())
