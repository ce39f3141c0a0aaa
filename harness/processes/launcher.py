"""Starts a process for each job, and returns the result or the failure of the job.

``ForkLauncher`` forks workers from a fork server. The launcher starts the server at the first job,
and again if the server has died. This module does not import torch, because a child's metrics would
then contain torch's memory. One thread at a time may use a launcher; any thread may call ``stop``.
"""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from typing import IO, Any

import msgspec
import psutil

from harness.processes.launch import (
    Launcher,
    LaunchError,
    OnPhase,
    Report,
    as_launch_error,
    environment_of_child,
    tail,
)
from harness.processes.loading import answers, stuck
from harness.processes.messages import Answer, Call, Ended, Work
from harness.processes.outcome import signal_name
from harness.processes.start_child import command, readable

__all__ = ["ForkLauncher", "LaunchError", "Launcher", "default_launcher"]

UNPRIMED = "unprimed"
"""Command-line argument for a fork server that loads PyTorch but runs no step."""

GRACE_SECONDS = 5.0
"""Time to wait until a killed process has ended and its end is reported, in seconds."""
FORK_SECONDS = 30.0
"""Time limit for a fork by a running fork server, in seconds."""


class ForkLauncher:
    """Starts a fork server, which forks a worker process for each job."""

    name = "fork"

    def __init__(
        self, malloc: str, *, environment: Mapping[str, str] | None = None, primes: bool = True
    ) -> None:
        self._malloc = malloc
        self._environment = dict(environment or {})
        self._primes = primes
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._replies = b""
        self._stopped = False
        self._name = ""

    def launch(
        self, job: Work[Answer], deadline_seconds: float, on_phase: OnPhase | None = None
    ) -> Ended[Answer]:
        """Run ``job`` in a fork of the server; call ``on_phase`` when a phase begins."""
        try:
            with contextlib.ExitStack() as stack:
                call = job.as_call()
                with as_launch_error():
                    control = self._connect(call)
                    errors = stack.enter_context(tempfile.TemporaryFile())
                    results, child_results = os.pipe()
                    stack.callback(os.close, results)
                report = Report(on_phase)
                started = time.monotonic()
                body = msgspec.json.encode(call)
                try:
                    head = f"{len(body):<16}".encode()
                    socket.send_fds(control, [head], [child_results, errors.fileno()])
                    control.sendall(body)
                except OSError:
                    self.close()
                    lost = "the fork server was gone before the job began"
                    return report.ended(errors, started, exit_code=None, lost=lost)
                finally:
                    os.close(child_results)
                how = self._follow(control, results, started + deadline_seconds, report)
                return report.ended(errors, started, fork_server=self._name, **how)
        except LaunchError:  # nothing was asked of the server: it serves again when it can
            raise
        except BaseException:  # interrupted: a reply that is still to come is nobody's
            self.close()
            raise

    def _follow(
        self, control: socket.socket, results: int, deadline: float, report: Report
    ) -> dict[str, Any]:
        """Read messages from the worker and the server until the worker has ended."""
        pid: int | None = None
        timed_out = False
        lost = "the fork server did not fork; it was ended"
        until = max(deadline, time.monotonic() + FORK_SECONDS)
        watched: list[socket.socket | int] = [control, results]
        while True:
            ready = readable(watched, until - time.monotonic())
            if results in ready:
                data = os.read(results, 1 << 16)
                report.feed(data)
                if not data:  # its end must follow: nothing else closes the pipe
                    watched.remove(results)
                    until = min(until, time.monotonic() + GRACE_SECONDS)
                    lost = "the worker closed its pipe and no end of it was seen; it was ended"
            if control.fileno() in ready:
                replies = self._read_replies(control)
                if replies is None:
                    self.close()
                    return {"exit_code": None, "lost": "the fork server died with the worker"}
                for reply in replies:
                    if "pid" in reply:
                        pid, until = reply["pid"], min(until, deadline)
                        lost = "a signal stopped the worker until its deadline; it was ended"
                    if "status" in reply:
                        _drain(results, report)
                        return {"exit_code": reply["status"], "timed_out": timed_out}
            if time.monotonic() >= until:
                if pid is None or timed_out or results not in watched or _is_stopped(pid):
                    self.close()
                    return {"exit_code": None, "lost": lost}
                timed_out = True
                lost = "the fork server did not report the worker's end; it was ended"
                until = time.monotonic() + GRACE_SECONDS
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _connect(self, call: Call) -> socket.socket:
        """Return the socket of a running fork server; start the server if needed."""
        if self._control is not None and self._server is not None and _runs(self._server):
            return self._control
        self.close()
        self._name = secrets.token_hex(4)
        ours, theirs = socket.socketpair()
        role = call.function.partition(":")[0] if self._primes else UNPRIMED
        with theirs, tempfile.TemporaryFile() as errors:
            self._control = ours
            self._server = server = subprocess.Popen(
                command("harness.processes.fork_server", str(theirs.fileno()), role),
                env=environment_of_child(self._malloc) | self._environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,  # Ctrl-C is for the parent, which ends the rest itself
            )
            theirs.close()
            if self._stopped:  # stop() came before there was a server to end
                server.kill()
            if not answers(ours, server.pid):
                why = " ".join([stuck("its process"), tail(errors)]).strip()
            elif self._read_replies(ours) == [{"ready": True}]:
                return ours
            else:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.wait(GRACE_SECONDS)
                code = server.returncode or 0
                why = tail(errors)
                if code < 0:
                    said = [line for line in _lines(errors) if "what():" in line][:1]
                    why = f"{signal_name(-code)} ended it while it loaded torch {''.join(said)}"
        self.close()
        raise LaunchError(f"no worker process can be started: {why}")

    def _read_replies(self, control: socket.socket) -> list[dict[str, Any]] | None:
        """Read the complete replies of the server; return None if the server has ended."""
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
        """Kill the job that another thread waits for, and refuse later jobs."""
        self._stopped = True
        server = self._server
        if server is not None:
            _kill_group(server)  # the waiting thread sees the socket close

    def close(self) -> None:
        """End the server and its worker."""
        control, self._control = self._control, None
        server, self._server = self._server, None
        self._replies = b""
        if control is not None:
            control.close()
        if server is not None:
            _kill_group(server)
            server.wait()


def _lines(errors: IO[bytes]) -> list[str]:
    """Return the first lines of a process's output, which contain the message of a C++ error."""
    errors.seek(0)
    return errors.read(1 << 16).decode(errors="replace").splitlines()


def _drain(results: int, report: Report) -> None:
    """Read the remaining messages of a worker that has ended."""
    while readable([results], 0) and (data := os.read(results, 1 << 16)):
        report.feed(data)


def _is_stopped(pid: int) -> bool:
    """Return whether a signal such as SIGSTOP has stopped the process."""
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    return False


def _runs(server: "subprocess.Popen[bytes]") -> bool:
    """Return whether the server is running, without releasing the id of a server that has ended."""
    ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return server.returncode is None and os.waitid(os.P_PID, server.pid, ended) is None


def _kill_group(server: "subprocess.Popen[bytes]") -> None:
    """Kill the server's process group, which contains the server and its worker.

    Killing only the server is not enough, because a new worker has not yet called
    ``die_with_parent``.
    """
    if server.returncode is None:  # or its number may be another's by now
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)


def default_launcher(malloc: str) -> Launcher:
    """Return a ``ForkLauncher`` with the malloc policy ``malloc``."""
    return ForkLauncher(malloc)
