"""Runs a job in a fresh interpreter: seconds each, but it needs no fork and shares no state."""

import subprocess
import tempfile
import time
from collections.abc import Callable

import msgspec

from harness.measurement.process.launch import Launcher, as_launch_error, environment_of_child
from harness.measurement.process.messages import Ended, Job
from harness.measurement.process.start_child import command
from harness.measurement.process.worker_output import OnPhase, Report

Started = Callable[["subprocess.Popen[bytes]"], None]


def run_module(
    module: str,
    request: bytes,
    deadline_seconds: float,
    *,
    malloc: str,
    started: Started = lambda _: None,
) -> Ended:
    """Run ``module`` in a new interpreter with ``request`` on its standard input, to its end.

    The module writes messages to its standard output (``worker.line_sender``). ``started`` is
    called with the process as soon as it runs. At the deadline, or if this call is interrupted,
    the process is killed.
    """
    begun = time.monotonic()
    report = Report()
    with tempfile.TemporaryFile() as errors:
        with as_launch_error():
            process = subprocess.Popen(
                command(module),
                env=environment_of_child(malloc),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # Ctrl-C is for the parent, which ends the rest itself
            )
        try:
            started(process)
            output, timed_out = _communicate(process, request, deadline_seconds)
        except BaseException:
            process.kill()
            process.wait()
            raise
        report.feed(output)
        return report.ended(errors, begun, exit_code=process.returncode, timed_out=timed_out)


def _communicate(
    process: "subprocess.Popen[bytes]", request: bytes, deadline_seconds: float
) -> tuple[bytes, bool]:
    try:
        return process.communicate(request, timeout=deadline_seconds)[0], False
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[0], True


class SpawnLauncher(Launcher):
    """Starts a fresh interpreter for every job; nothing outlives a launch."""

    name = "spawn"

    def __init__(self, malloc: str) -> None:
        self._malloc = malloc
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def launch(self, job: Job, deadline_seconds: float, on_phase: OnPhase | None = None) -> Ended:
        """Run ``job`` in a new interpreter, whose phases are known when it has ended."""
        del on_phase

        def started(process: "subprocess.Popen[bytes]") -> None:
            self._process = process
            if self._stopped:
                process.kill()

        worker = "harness.measurement.process.worker"
        request = msgspec.json.encode(job)
        return run_module(worker, request, deadline_seconds, malloc=self._malloc, started=started)

    def stop(self) -> None:
        """End the job that another thread waits for, and refuse every further one."""
        self._stopped = True
        if self._process is not None:
            self._process.kill()
