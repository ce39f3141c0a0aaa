"""Forks workers from a fork server that is started on first use, and again if it dies."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Any

import msgspec

from harness.measurement.process.launch import LaunchError, as_launch_error, environment_of_child
from harness.measurement.process.messages import Ended, Job
from harness.measurement.process.outcome import signal_name
from harness.measurement.process.start_child import command
from harness.measurement.process.worker_output import OnPhase, Report, is_stopped, tail, why_silent

UNPRIMED = "unprimed"
"""Argument of a fork server that loads PyTorch and runs nothing."""

START_SECONDS = 120.0
"""How long a fork server may take to load torch."""
GRACE_SECONDS = 5.0
"""How long a killed process may take to be gone, and the fork server to report an end."""
FORK_SECONDS = 30.0
"""How long a running fork server may take to fork."""
_CHECK_SECONDS = 1.0
"""How often a silent fork server is looked at."""
_STARTS = 2
"""How often a fork server is started that a signal ends or stops while it loads."""


class ForkLauncher:
    """Forks a worker per job from a server of its own."""

    name = "fork"

    def __init__(
        self, malloc: str, *, environment: Mapping[str, str] | None = None, primes: bool = True
    ) -> None:
        """Prepare to launch."""
        self._malloc = malloc
        self._environment = dict(environment or {})
        self._primes = primes
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._replies = b""
        self._stopped = False

    def launch(self, job: Job, deadline_seconds: float, on_phase: OnPhase | None = None) -> Ended:
        """Run ``job`` in a fork of the server; ``on_phase`` hears of each phase as it begins."""
        try:
            with as_launch_error():
                control = self._connect()
                errors = tempfile.TemporaryFile()  # noqa: SIM115  # entered just below
            with errors:
                report = Report(on_phase)
                return self._run(job, control, errors, deadline_seconds, report)
        except LaunchError:  # nothing was asked of the server: it serves again when it can
            raise
        except BaseException:  # interrupted: a reply that is still to come is nobody's
            self.close()
            raise

    def _run(
        self,
        job: Job,
        control: socket.socket,
        errors: IO[bytes],
        deadline_seconds: float,
        report: Report,
    ) -> Ended:
        started = time.monotonic()
        with as_launch_error():
            results, child_results = os.pipe()
        try:
            try:
                body = msgspec.json.encode(job)
                head = f"{len(body):<16}".encode()
                socket.send_fds(control, [head], [child_results, errors.fileno()])
                control.sendall(body)
            except OSError:
                self.close()
                lost = "the fork server was gone before the job began"
                return Report().ended(errors, started, exit_code=None, lost=lost)
            finally:
                os.close(child_results)
            watch = _Watch(
                results=results, started=started, seconds=deadline_seconds, report=report
            )
            how = self._follow(control, watch)
            return watch.report.ended(errors, started, timed_out=watch.timed_out, **how)
        finally:
            os.close(results)

    def _follow(self, control: socket.socket, watch: "_Watch") -> dict[str, Any]:
        """Listen to the worker and the server until the worker's end is known."""
        stopped = False
        while True:
            ready = watch.wait(control)
            if control in ready:
                replies = self._read_replies(control)
                if replies is None:
                    self.close()
                    return {"exit_code": None, "lost": "the fork server died with the worker"}
                for reply in replies:
                    watch.pid = reply.get("pid", watch.pid)
                    if "status" in reply:
                        watch.drain()
                        return {"exit_code": reply["status"]}
            before, stopped = stopped, watch.awaits_fork and self._server_is_stopped()
            if watch.is_over or (before and stopped):  # twice: a moment's stop is none
                lost = watch.why_lost(self._server_is_stopped())
                if lost is not None:
                    self.close()
                    return {"exit_code": None, "lost": lost}
                watch.kill()

    def _server_is_stopped(self) -> bool:
        return self._server is not None and is_stopped(self._server.pid)

    def _connect(self) -> socket.socket:
        """Return the socket of a running fork server, started now if need be."""
        if self._control is not None and self._server is not None and _runs(self._server):
            return self._control
        why = ""
        for _ in range(_STARTS):
            self.close()
            control, why, again = self._start()
            if control is not None:
                return control
            self.close()
            if not again or self._stopped:
                break
        raise LaunchError(f"the fork server did not start: {why}")

    def _start(self) -> tuple[socket.socket | None, str, bool]:
        """Start a server; return its socket, or None, why not, and whether to try once more."""
        ours, theirs = socket.socketpair()
        role = [] if self._primes else [UNPRIMED]
        with theirs, tempfile.TemporaryFile() as errors:
            self._control = ours
            self._server = server = subprocess.Popen(
                command("harness.measurement.process.fork_server", str(theirs.fileno()), *role),
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
            if not _heard_from(server, ours):
                if is_stopped(server.pid):
                    return None, "a signal stopped it while it loaded torch", True
                return None, f"it loaded for {START_SECONDS:g} s; {tail(errors)}", False
            if self._read_replies(ours) == [{"ready": True}]:
                return ours, "", False
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(GRACE_SECONDS)
            if server.returncode is not None and server.returncode < 0:
                name = signal_name(-server.returncode)
                return None, f"{name} ended it while it loaded torch", True
            return None, tail(errors), False

    def _read_replies(self, control: socket.socket) -> list[dict[str, Any]] | None:
        """Return the complete replies that have come; None where the server is gone."""
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
            _kill_group(server)  # the waiting thread sees the socket close

    def close(self) -> None:
        """End the server and its worker, also where one is stopped, or still loads."""
        control, self._control = self._control, None
        server, self._server = self._server, None
        self._replies = b""
        if control is not None:
            control.close()
        if server is not None:
            _kill_group(server)
            server.wait()


@dataclass(kw_only=True)
class _Watch:
    """One job in progress: what was heard of it, and until when the next word is awaited."""

    results: int
    started: float
    seconds: float
    pid: int | None = None
    """The worker's, once it was forked: only then its deadline counts."""
    timed_out: bool = False
    report: Report = field(default_factory=Report)
    _open: bool = True
    _grace_until: float | None = None

    @property
    def until(self) -> float:
        """Return when patience ends."""
        if self._grace_until is not None:
            return self._grace_until
        end = self.started + self.seconds
        return end if self.pid is not None else max(end, self.started + FORK_SECONDS)

    @property
    def awaits_fork(self) -> bool:
        return self.pid is None

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.until

    def wait(self, control: socket.socket) -> list[Any]:
        """Wait for a word of either; take in the worker's, and return which of them spoke."""
        watched: list[Any] = [control, self.results] if self._open else [control]
        left = max(0.0, self.until - time.monotonic())
        if self.awaits_fork:
            left = min(left, _CHECK_SECONDS)
        ready, _, _ = select.select(watched, [], [], left)
        if self.results in ready:
            data = os.read(self.results, 1 << 16)
            self.report.feed(data)
            if not data:  # its end must follow: nothing else closes the pipe
                self._open = False
                self._grace_until = min(self.until, time.monotonic() + GRACE_SECONDS)
        return ready

    def why_lost(self, server_is_stopped: bool) -> str | None:
        """Return why no end will be seen, None where a kill at the deadline will bring one."""
        if self.timed_out or server_is_stopped:
            return "the fork server was stopped by a signal; it was ended"
        return why_silent(self.pid, open_results=self._open)

    def kill(self) -> None:
        """End the worker at its deadline, and wait a little for the server to report it."""
        assert self.pid is not None, "why_lost names a worker that was never forked"
        self.timed_out = True
        self._grace_until = time.monotonic() + GRACE_SECONDS
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def drain(self) -> None:
        """Read what a process that has ended left in its pipe."""
        while select.select([self.results], [], [], 0)[0]:
            data = os.read(self.results, 1 << 16)
            if not data:
                return
            self.report.feed(data)


def _runs(server: "subprocess.Popen[bytes]") -> bool:
    """Return whether the server runs; one that ended keeps its number, for ``_kill_group``."""
    ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return server.returncode is None and os.waitid(os.P_PID, server.pid, ended) is None


def _kill_group(server: "subprocess.Popen[bytes]") -> None:
    """Kill the server and its worker, which leads no group of its own.

    A worker that is stopped right after its fork has not yet asked to die with the server.
    """
    if server.returncode is None:  # or its number may be another's by now
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)


def _heard_from(server: "subprocess.Popen[bytes]", control: socket.socket) -> bool:
    """Wait until the server says a word or ends; False where it is stopped, or too slow."""
    end = time.monotonic() + START_SECONDS
    stopped = False
    while time.monotonic() < end:
        if select.select([control], [], [], _CHECK_SECONDS)[0]:
            return True
        before, stopped = stopped, is_stopped(server.pid)
        if before and stopped:  # twice: a moment's stop, as of a debugger, is none
            return False
    return False
