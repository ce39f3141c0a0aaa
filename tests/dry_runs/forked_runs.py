"""Dry runs in forks of one process that has loaded PyTorch: tenths of a second, not seconds.

The forks run what the process of a dry run runs (``child.py``), without its supervisor and without
a folder for files; the report and the trials of other values are those of the product.
"""

import atexit
import dataclasses
import functools
import os
import pickle
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import msgspec

from harness.dry_runs import child
from harness.dry_runs import recording as recordings
from harness.dry_runs.assemble_report import assemble_report
from harness.dry_runs.build import build
from harness.dry_runs.child_result import ChildResult
from harness.dry_runs.computing import Compute, compute_variables
from harness.dry_runs.dry_run_report import DryRunReport
from harness.dry_runs.dry_run_request import ALLOCATIONS, RESULT, Request
from harness.dry_runs.file_layer import Layers
from harness.dry_runs.pretended_environment import pretending
from harness.dry_runs.pretended_gpu import pretended_gpu
from harness.dry_runs.recording import FOLD_EVENTS, Recording
from harness.dry_runs.status_page import StatusPage
from harness.dry_runs.toolchain import torch_build
from harness.dry_runs.trial_values import FIRST, SECOND, Trial
from harness.dry_runs.unknown_values import judged, settled, tries_others


class ForkedRuns(AbstractContextManager["ForkedRuns"]):
    """Runs scripts one after another; a context manager that ends the process.

    Args:
        fold_events: allocations and frees after which the allocator's history is folded.
        compute: how many values the runs compute.
    """

    def __init__(
        self, folder: Path, *, fold_events: int = FOLD_EVENTS, compute: Compute = "none"
    ) -> None:
        self._folder = folder
        self._gpu = pretended_gpu("l4")
        self._status = folder / "status"
        self._status.write_bytes(bytes(StatusPage()))
        torch = torch_build()
        self._architectures = torch.architectures()
        environment = os.environ | pretending(self._gpu, torch, build(torch))
        environment |= compute_variables(compute)
        environment["HARNESS_DRY_RUN_STATUS"] = str(self._status)
        self._server: Any = subprocess.Popen(
            [sys.executable, "-m", __name__, str(fold_events)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __exit__(self, *_: object) -> None:
        self._server.communicate()

    def run(self, script: Path) -> DryRunReport:
        """Run a script as ``harness dry-run`` does, with trials of other values."""
        request = Request(
            gpu=self._gpu, kind="script", target=str(script), answers={}, environment={}
        )

        def run(trial: Trial) -> tuple[DryRunReport, Path]:
            for stream in self._folder.glob(f"{ALLOCATIONS}-*"):
                stream.unlink()
            report = self._once(dataclasses.replace(request, trial=trial))
            kept = Path(tempfile.mkdtemp(dir=self._folder))
            for stream in self._folder.glob(f"{ALLOCATIONS}-*"):
                stream.rename(kept / stream.name)
            return report, kept

        first = settled(run, FIRST)
        if not tries_others(first.report):
            return first.report
        return judged(first, settled(run, SECOND), lambda trial: settled(run, trial))[0]

    def _once(self, request: Request) -> DryRunReport:
        job, result = self._folder / "job", self._folder / RESULT
        result.unlink(missing_ok=True)
        layers = Layers(folders=(), through=(), stub=Path(), preloaded=())
        job.write_bytes(pickle.dumps((request, layers)))
        with self._status.open("r+b") as page:  # the process has it mapped
            seen = StatusPage.from_buffer_copy(page.read())
            page.seek(0)
            page.write(bytes(StatusPage(magic=seen.magic)))
        begin = time.monotonic()
        self._server.stdin.write(f"{job}\n")
        self._server.stdin.flush()
        code = int(self._server.stdout.readline())
        inside = ChildResult(ended="lost")
        if result.exists():
            inside = msgspec.json.decode(result.read_bytes(), type=ChildResult)
        return assemble_report(
            request,
            self._folder,
            inside,
            StatusPage.from_buffer_copy(self._status.read_bytes()),
            self._architectures,
            code=code,
            late=False,
            received=None,
            seconds=time.monotonic() - begin,
        )


def _serve() -> None:
    """Fork for each job that standard input names, and print the exit code."""
    import torch

    torch.set_num_threads(1)
    setattr(child, "supervised", lambda *_, **__: None)  # noqa: B010
    recording = functools.partial(Recording, fold_events=int(sys.argv[1]))
    setattr(recordings, "Recording", recording)  # noqa: B010
    setattr(Layers, "enter", lambda _, folder, writes: ("written", folder))  # noqa: B010
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            code = 1
            with Path(os.devnull).open("r+") as null:
                for stream in (0, 1, 2):
                    os.dup2(null.fileno(), stream)
            sys.argv[:] = ["child", line.strip()]
            try:
                code = child.main()
                atexit._run_exitfuncs()
            except BaseException:
                traceback.print_exc()
            os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


if __name__ == "__main__":
    _serve()
