"""Runs one job in a worker process, and sends messages as lines of JSON.

The fork server calls ``run_job`` in a forked child.
"""

import os
import pkgutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
import torch

from harness.processes import gpu
from harness.processes.malloc_policy import apply_policy
from harness.processes.messages import Call, Message
from harness.processes.outcome import failure_of
from harness.schema.workload import Workload
from harness.training import data
from harness.training.module_step import Phase, run_step
from harness.training.training_step import build

Send = Callable[[Message], None]


def prime(*, forward_only: bool = False) -> None:
    """Run tiny steps, so that libraries finish their one-time work before a measurement.

    The tiny steps run only on the CPU. A step on a GPU would leave blocks in the CUDA allocator,
    but a measurement must begin with an empty allocator. Use ``forward_only`` in a process that
    will fork on a machine with a GPU. There, a backward pass would start GPU threads, and an
    optimizer step would initialise CUDA.
    """
    torch.set_num_threads(1)
    mode = "inference" if forward_only else "train"
    for optimizer in ("sgd",) if forward_only else ("sgd", "adam"):
        tiny = Workload(mode=mode, optimizer=optimizer, width=8, in_features=8, batch=4)
        built = build(tiny, data.source(tiny))
        run_step(built)
        run_step(built)


def run_job(job: Call, send: Send, *, primed: bool = True) -> int:
    """Run ``job``, send its result or failure, and return the exit code."""
    try:
        apply_policy(job.malloc)
        if job.device == "cpu":
            gpu.hide()
            if not primed:
                prime()
        result = pkgutil.resolve_name(job.function)(job.request, _announcer(job, send))
    except BaseException as error:
        failure = msgspec.structs.replace(failure_of(error), gpu_memory=gpu.memory_at_failure())
        send(Message(failure=failure))
        return 1
    send(Message(result=dict(result)))
    return 0


def _announcer(job: Call, send: Send) -> Phase:
    """Return a context manager function that sends the name of a phase to the parent process."""
    pending = [] if job.inject is None else [job.inject]

    @contextmanager
    def announce(name: str) -> Iterator[None]:
        send(Message(phase=name))
        if name == "forward" and pending:
            _inject(pending.pop())
        yield

    return announce


def _inject(fault: str) -> None:
    """Simulate the failure that the hidden option ``harness measure --inject`` names."""
    if fault == "kill":
        os.kill(os.getpid(), 9)
    elif fault == "hang":
        while True:
            time.sleep(3600)
    elif fault == "oom":
        torch.empty(1 << 60, dtype=torch.uint8)
    raise RuntimeError("an injected error")


def line_sender(descriptor: int) -> Send:
    """Return a function that writes messages as JSON lines to a file descriptor."""
    encoder = msgspec.json.Encoder()

    def send(message: Message) -> None:
        rest = memoryview(encoder.encode(message) + b"\n")
        while rest:
            rest = rest[os.write(descriptor, rest) :]

    return send
