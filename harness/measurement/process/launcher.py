"""Starts one process per job, reads what it says, and tells how it ended.

``ForkLauncher`` asks a primed forkserver for a fork; ``SpawnLauncher`` starts a fresh
interpreter, for systems without fork. Neither imports torch: what this process holds would
show in its children's figures. Both are used by one thread at a time; ``stop`` alone may come
from another.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import IO, Any, Protocol

import msgspec

from harness.measurement.malloc_settings import ENVIRONMENT
from harness.measurement.process.messages import Ended, Job
from harness.measurement.process.worker_output import Report, tail, why_silent
from harness.schema.errors import HarnessError

START_SECONDS = 120.0
"""How long a forkserver may take to load torch."""
GRACE_SECONDS = 5.0
"""How long a killed process may take to be gone, and the server to tell of an end."""
FORK_SECONDS = 30.0
"""How long a running forkserver may take to fork."""


class LaunchError(HarnessError):
    """No worker process can be started at all, such as under a limit; the message says why."""


class Launcher(Protocol):
    """Runs jobs, one at a time, each in a process of its own."""

    name: str

    def launch(self, job: Job, deadline_seconds: float) -> Ended:
        """Run ``job`` to its end, or kill it at the deadline."""

    def stop(self) -> None:
        """End the job that another thread waits for, and refuse every further one."""

    def close(self) -> None:
        """End every process that this launcher started."""


def default_launcher(malloc: str) -> "Launcher":
    """Return the best launcher that this system has, for a malloc policy."""
    forks = sys.platform.startswith("linux")
    return ForkLauncher(malloc) if forks else SpawnLauncher(malloc)


def _environment(malloc: str) -> dict[str, str]:
    """Return the environment of a worker: ours, with the malloc policy's variables."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    extra = {
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # asking for a GPU must not initialise CUDA
        "PYTHONUNBUFFERED": "1",
    }
    return inherited | ENVIRONMENT[malloc] | extra


class ForkLauncher:
    """Forks workers from a forkserver that is started on first use, and again if it dies."""

    name = "fork"

    def __init__(self, malloc: str) -> None:
        self._malloc = malloc
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._replies = b""
        self._stopped = False

    def launch(self, job: Job, deadline_seconds: float) -> Ended:
        """Run ``job`` in a fork of the server.

        Raises:
            LaunchError: the forkserver cannot be started.

        """
        with _as_launch_error():
            control = self._connect()
            errors = tempfile.TemporaryFile()  # noqa: SIM115  # entered just below
        started = time.monotonic()
        report = Report()
        with errors:
            with _as_launch_error():
                results, child_results = os.pipe()
            try:
                how = self._follow(
                    job, control, results, child_results, errors, report, deadline_seconds
                )
            finally:
                os.close(results)
            return report.ended(errors, started, **how)

    def _follow(
        self,
        job: Job,
        control: socket.socket,
        results: int,
        child_results: int,
        errors: IO[bytes],
        report: Report,
        deadline_seconds: float,
    ) -> dict[str, Any]:
        try:
            _send_request(control, msgspec.json.encode(job), [child_results, errors.fileno()])
        except OSError:
            self.close()
            return {"exit_code": None, "lost": "the forkserver was gone before the job began"}
        finally:
            os.close(child_results)
        end = time.monotonic() + deadline_seconds
        deadline = min(end, time.monotonic() + FORK_SECONDS)
        pid: int | None = None
        timed_out, open_results = False, True
        while True:
            watched: list[Any] = [control, results] if open_results else [control]
            ready, _, _ = select.select(watched, [], [], max(0.0, deadline - time.monotonic()))
            if results in ready:
                data = os.read(results, 1 << 16)
                report.feed(data)
                if not data:  # its end must follow: nothing else closes the pipe
                    open_results = False
                    deadline = min(deadline, time.monotonic() + GRACE_SECONDS)
            if control in ready:
                replies = self._read_replies(control)
                if replies is None:
                    self.close()
                    return {"exit_code": None, "lost": "the forkserver died with the worker"}
                for reply in replies:
                    if "pid" in reply:
                        pid = reply["pid"]
                        deadline = end if open_results else deadline
                    if "status" in reply:
                        _drain(results, report)
                        return {"exit_code": reply["status"], "timed_out": timed_out}
            if not ready:
                lost = why_silent(pid, open_results=open_results)
                if timed_out or pid is None or lost is not None:
                    self._end_server(at_once=True)
                    return {"exit_code": None, "timed_out": timed_out, "lost": lost}
                timed_out, deadline = True, time.monotonic() + GRACE_SECONDS
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _connect(self) -> socket.socket:
        """Return the socket of a running forkserver, started now if need be."""
        if self._control is not None and self._server is not None and self._server.poll() is None:
            return self._control
        self.close()
        ours, theirs = socket.socketpair()
        with theirs, tempfile.TemporaryFile() as errors:
            command = [
                sys.executable,
                "-m",
                "harness.measurement.process.fork_server",
                str(theirs.fileno()),
            ]
            self._server = subprocess.Popen(
                command,
                env=_environment(self._malloc),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,  # Ctrl-C is for the parent, which ends the rest itself
            )
            theirs.close()
            self._control = ours
            if self._stopped:  # stop() came before there was a server to end
                self._server.kill()
            ready, _, _ = select.select([ours], [], [], START_SECONDS)
            if not ready or self._read_replies(ours) != [{"ready": True}]:
                self.close()
                raise LaunchError(f"the forkserver did not start: {tail(errors)}")
        return ours

    def _read_replies(self, control: socket.socket) -> list[dict[str, Any]] | None:
        """Return the complete replies that have come; None where the server is gone.

        Raises:
            LaunchError: the system lets the server fork no worker.

        """
        try:
            data = control.recv(1 << 16)
        except OSError:
            return None
        if not data:
            return None
        *lines, self._replies = (self._replies + data).split(b"\n")
        replies: list[dict[str, Any]] = [msgspec.json.decode(line) for line in lines]
        for reply in replies:
            if "refused" in reply:
                self.close()
                raise LaunchError(f"no worker process can be forked: {reply['refused']}")
        return replies

    def stop(self) -> None:
        """End the job that another thread waits for, and refuse every further one."""
        self._stopped = True
        server = self._server
        if server is not None:
            server.kill()  # its worker dies with it, and the waiting thread sees the socket close

    def close(self) -> None:
        """End the server; a worker of its own dies with it."""
        self._end_server(at_once=False)

    def _end_server(self, *, at_once: bool) -> None:
        if self._control is not None:
            self._control.close()
        if self._server is not None:
            try:
                if at_once:  # it may stand still, and would not see that its socket closed
                    self._server.kill()
                self._server.wait(timeout=GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
        self._control, self._server, self._replies = None, None, b""


@contextlib.contextmanager
def _as_launch_error() -> Iterator[None]:
    """Name the cause where the system has no process, file or memory left to begin with."""
    try:
        yield
    except OSError as error:
        raise LaunchError(f"no worker process can be started: {error}") from error


def _send_request(control: socket.socket, body: bytes, descriptors: list[int]) -> None:
    socket.send_fds(control, [f"{len(body):<16}".encode()], descriptors)
    control.sendall(body)


def _drain(results: int, report: Report) -> None:
    """Read what a process that has ended left in its pipe."""
    while select.select([results], [], [], 0)[0] and (data := os.read(results, 1 << 16)):
        report.feed(data)


class SpawnLauncher:
    """Starts a fresh interpreter for every job: seconds each, but it needs no fork."""

    name = "spawn"

    def __init__(self, malloc: str) -> None:
        self._malloc = malloc
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def launch(self, job: Job, deadline_seconds: float) -> Ended:
        """Run ``job`` in a new interpreter.

        Raises:
            LaunchError: it cannot be started.

        """
        started = time.monotonic()
        report = Report()
        command = [sys.executable, "-m", "harness.measurement.process.worker"]
        with tempfile.TemporaryFile() as errors:
            with _as_launch_error():
                self._process = process = subprocess.Popen(
                    command,
                    env=_environment(self._malloc),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    start_new_session=True,
                )
            if self._stopped:
                process.kill()
            try:
                output, timed_out = _communicate(
                    process, msgspec.json.encode(job), deadline_seconds
                )
            except BaseException:
                process.kill()
                process.wait()
                raise
            report.feed(output)
            how = {"exit_code": process.returncode, "timed_out": timed_out}
            return report.ended(errors, started, **how)

    def stop(self) -> None:
        """End the job that another thread waits for, and refuse every further one."""
        self._stopped = True
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """Nothing outlives a launch."""


def _communicate(
    process: "subprocess.Popen[bytes]", request: bytes, deadline_seconds: float
) -> tuple[bytes, bool]:
    try:
        return process.communicate(request, timeout=deadline_seconds)[0], False
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[0], True
