"""Server process that has loaded PyTorch, and forks a worker process for each request.

Starting a new interpreter for each measurement takes seconds. Forking the server takes
milliseconds, and each fork starts in the same state. The server runs one fork at a time.

The server and its client exchange JSON over an inherited socket. A request contains the job's
length and the job. Two file descriptors, for results and for standard error, are attached to the
request. The server replies ``{"pid": n}`` after the fork, and ``{"status": exit code}`` after the
worker's end. The exit code is negative if a signal ended the worker. If the system allows no
further process, the server replies ``{"refused": why}``.
"""

import contextlib
import gc
import importlib
import itertools
import os
import signal
import socket
import sys
import traceback
from typing import Any

import msgspec

from harness.prediction.interpreter_state import collection_paused
from harness.processes.launcher import UNPRIMED
from harness.processes.limits.own_pages import gather
from harness.processes.malloc_policy import allow_huge_pages, replacement
from harness.processes.messages import Call
from harness.processes.process_parts import note_before_torch, note_with_torch
from harness.processes.start_child import die_first_for_memory, die_with_parent, readable

FORKS_BEFORE_GATHERING = 12
"""Number of forks after which the server moves its memory to huge pages. Moving the memory takes up
to a second. Huge pages save more than a second in a sweep, but not in a threshold search."""


def main() -> int:
    """Fork a worker for each request, until the client closes the socket."""
    control = socket.socket(fileno=int(sys.argv[1]))
    allow_huge_pages(False)
    note_before_torch()
    primes = sys.argv[2] != UNPRIMED
    try:
        with collection_paused():  # a sixth of the time that PyTorch takes to load
            primed = _load_primed(sys.argv[2]) if primes else _load_unprimed()
    except BlockingIOError as error:  # not even the fork that looks for a GPU is allowed
        _reply(control, {"refused": str(error)})
        return 1
    _reply(control, {"ready": True})
    wake, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write)
    for forks in itertools.count():
        if (request := _receive(control)) is None:
            break
        if forks == FORKS_BEFORE_GATHERING:
            allow_huge_pages(True)
            gather()
            allow_huge_pages(False)
        _load_called(request[0])
        if not _serve(control, wake, *request, primed=primed):
            break
    return 0


def _load_primed(module: str) -> bool:
    """Load torch and the module of the first job, and run tiny steps.

    Returns:
        False if the machine has a GPU; each worker on the CPU then runs the tiny steps itself.

    """
    import torch._dynamo  # noqa: F401  # an optimizer's first step wants it: a second a cell

    from harness.processes import gpu
    from harness.processes.limits.heap_headroom import prime_matmuls
    from harness.processes.worker import prime

    importlib.import_module(module)
    beside_gpu = gpu.seen_in_a_fork()
    prime(forward_only=beside_gpu)
    prime_matmuls()
    note_with_torch()
    # Forks inherit the answer, for which all mappings are read.
    replacement()
    gc.collect()
    gc.freeze()  # or every child would go through all of torch's objects, and copy their pages
    return not beside_gpu


def _load_unprimed() -> bool:
    """Load torch without its compiler, and run no step."""
    from harness.processes import compiler_on_demand

    compiler_on_demand.postpone()
    gc.freeze()
    return True


def _load_called(request: bytes) -> None:
    """Import the module of a job's function before the fork, so that no fork imports it again."""
    from harness.processes import compiler_on_demand

    job = msgspec.json.decode(request, type=Call)
    loaded = len(sys.modules)
    if job.asks_host:  # an optimizer loads it where this is not a dry run
        compiler_on_demand.load()
    with contextlib.suppress(Exception):  # the fork fails alike, and reports it
        importlib.import_module(job.function.partition(":")[0])
    if len(sys.modules) > loaded:
        gc.collect()
        gc.freeze()


def _reply(control: socket.socket, message: dict[str, Any]) -> None:
    control.sendall(msgspec.json.encode(message) + b"\n")


def _receive(control: socket.socket) -> tuple[bytes, list[int]] | None:
    """Return the bytes and the two file descriptors of a job, or None if the socket is closed."""
    head, descriptors, _, _ = socket.recv_fds(control, 16, 2)
    if not head:
        return None
    size = int(head)
    body = bytearray()
    while len(body) < size:
        part = control.recv(size - len(body))
        if not part:
            return None
        body += part
    return bytes(body), descriptors


def _serve(
    control: socket.socket, wake: int, request: bytes, descriptors: list[int], *, primed: bool
) -> bool:
    """Fork a worker and wait for its end; return False if the server cannot continue."""
    results, errors = descriptors
    server = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        _reply(control, {"refused": str(error)})
        return False
    if pid == 0:
        die_with_parent(server)
        die_first_for_memory()
        signal.set_wakeup_fd(-1)
        control.close()
        _work(request, results, errors, primed=primed)
    os.close(results)
    os.close(errors)
    try:
        _reply(control, {"pid": pid})
        status = _wait(pid, control, wake)
        if status is not None:
            _reply(control, {"status": os.waitstatus_to_exitcode(status)})
        return status is not None
    except BrokenPipeError:
        return False


def _wait(pid: int, control: socket.socket, wake: int) -> int | None:
    """Wait for the worker, and return its wait status, or None if the client ends first."""
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        if control.fileno() in readable([control, wake]):  # it has ended: no request comes now
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None
        os.read(wake, 512)


def _work(request: bytes, results: int, errors: int, *, primed: bool) -> None:
    """Run the job in the forked worker process, and then end this process."""
    code = 70
    try:
        from harness.processes.worker import line_sender, run_job

        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(errors, 1)
        os.dup2(errors, 2)
        job = msgspec.json.decode(request, type=Call)
        code = run_job(job, line_sender(results), primed=primed)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(code)  # no interpreter teardown: it would run the server's handlers
