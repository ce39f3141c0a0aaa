"""The process that a dry run happens in: runs the user's code, writes what was seen.

``own_interpreter`` starts its ``main`` with a file that holds the job. The code is run as ``python
script.py`` or ``python -m module`` would: same ``__main__``, same ``sys.argv``, same first entry of
``sys.path``, same traceback. The report is written when an interpreter would end: after threads
that are still running, and after all functions that were registered for the exit.
"""

import builtins
import contextlib
import ctypes
import faulthandler
import os
import pickle
import runpy
import sys
import traceback
import zipfile
from pathlib import Path
from types import ModuleType, TracebackType

import msgspec

from harness.dry_run.after_import import after_import
from harness.dry_run.compiled import watch
from harness.dry_run.dry_run_report import ChildResult
from harness.dry_run.dry_run_request import Request
from harness.dry_run.ending import Ending, first_line, is_out_of_memory, write_result
from harness.dry_run.fake_ranks import pretend_ranks
from harness.dry_run.kept_files import WRITERS, keep_written
from harness.dry_run.own_code import is_own
from harness.dry_run.recording import EnoughStepsError, Recording
from harness.dry_run.supervisor import supervised, unblock_signals
from harness.dry_run.value_reads import ValueReads


def _run(job: Request) -> object:
    """Run what the job names; return what a function returned."""
    sys.argv[:] = [job.target, *job.arguments]
    if job.kind == "script":
        _run_script(Path(job.target))
    elif job.kind == "module":
        sys.path.insert(0, str(Path.cwd()))
        _give_way(Path.cwd())
        runpy.run_module(job.target, run_name="__main__", alter_sys=True)
    else:
        sys.path[:] = job.path
        call = pickle.loads(Path(job.target).read_bytes())
        return msgspec.to_builtins(call["function"](*call["arguments"], **call["named"]))
    return None


def _run_script(script: Path) -> None:
    """Execute a file as the module ``__main__``, which stays so until the process ends."""
    if script.is_dir() or zipfile.is_zipfile(script):
        runpy.run_path(str(script), run_name="__main__")
        return
    main = ModuleType("__main__")
    main.__dict__.update(__file__=str(script), __builtins__=builtins, __cached__=None)
    sys.modules["__main__"] = main
    sys.path.insert(0, str(script.resolve().parent))
    _give_way(script.resolve().parent)
    code = compile(script.read_bytes(), str(script), "exec", dont_inherit=True)
    exec(code, main.__dict__)


def _give_way(folder: Path) -> None:
    """Let the user's modules be found that have the name of one that this process has loaded."""
    for name in ("harness", "msgspec"):
        file = getattr(sys.modules.get(name), "__file__", None)
        if Path(file or "").parent == folder / name:
            continue
        if (folder / name).is_dir() or (folder / f"{name}.py").exists():
            for loaded in [one for one in sys.modules if one.partition(".")[0] == name]:
                del sys.modules[loaded]


def _print_error(error: BaseException) -> None:
    """Print the traceback from the user's first frame on, as Python would."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None and is_own(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    traceback.print_exception(type(error), error, trace or error.__traceback__)


def _outcome(error: BaseException | None) -> tuple[str, str | None]:
    """Return how the script ended, and the evidence; print what Python would."""
    if error is None or isinstance(error, EnoughStepsError):
        return ("ok" if error is None else "stopped"), None
    if isinstance(error, SystemExit):
        code = 0 if error.code is None else error.code if isinstance(error.code, int) else 1
        if code != error.code and error.code is not None:
            with contextlib.suppress(Exception):
                print(error.code, file=sys.stderr)
        return ("error", f"the script exited with code {int(code)}") if code else ("ok", None)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", "interrupted"
    with contextlib.suppress(Exception):  # its standard error may be closed
        _print_error(error)
    last = first_line(error)
    if is_out_of_memory(error):
        return "oom", last
    return "error", last


def _tell(line: str) -> None:
    with contextlib.suppress(Exception):  # it may be closed
        print(f"harness dry-run: {line}", file=sys.stderr, flush=True)


def main() -> int:
    """Run the job of the command line; return the script's exit code."""
    file = Path(sys.argv[1])
    job: Request = pickle.loads(file.read_bytes())
    stub = ctypes.CDLL(None)
    if not hasattr(stub, "pretend_main"):
        write_result(ChildResult(ended="not loaded"), Path(job.result))
        return 1
    supervised(job.lifeline, file.parent)
    stub.pretend_main()
    with contextlib.suppress(RuntimeError):  # without a standard error
        faulthandler.enable()
    reads = ValueReads(job.answers, integer=job.integer)
    recording = Recording(reads, job.steps)
    ending = Ending(job, reads, recording)
    ending.listen()
    unblock_signals()

    def on_torch(module: ModuleType) -> None:
        from harness.dry_run.large_parameters import LargeParameters  # it needs PyTorch

        recording.start(module)
        LargeParameters(recording.notes).defer()
        if job.world_size is not None:
            pretend_ranks(recording.notes)

    if not job.write_files:
        for name in WRITERS:
            after_import(name, keep_written)
    after_import("torch", on_torch)
    ending.compilations = watch(_tell, pretended=True)
    error: BaseException | None = None
    pid = os.getpid()
    try:
        ending.returned = _run(job)
    except BaseException as raised:
        error = raised
    if os.getpid() != pid:  # a process that the script forked came out of its end
        raise error if error is not None else SystemExit(0)
    ending.ended, ending.evidence = _outcome(error)
    if ending.ended == "stopped":
        ending.soon()
    return 0 if ending.ended in ("ok", "stopped") else 1
