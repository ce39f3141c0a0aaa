"""Does one job in a process of its own: primes, builds, runs the passes, reports by lines.

Started by the forkserver (``run_job`` in a forked child) or, where there is no fork, as
``python -m harness.execution.worker`` with the job on standard input.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import torch

from harness import data, training
from harness.errors import HarnessError
from harness.events import trace_figures
from harness.execution import passes, probe, training_run
from harness.execution.jobs import Failure, Job, Message
from harness.execution.malloc import apply_policy, disable_huge_pages
from harness.execution.outcome import is_out_of_memory
from harness.execution.room import prime_products
from harness.workload import Workload

Send = Callable[[Message], None]


def prime(device: str = "cpu", *, forward_only: bool = False) -> None:
    """Run tiny steps so that libraries do their one-time work before anything is measured.

    ``forward_only`` where the process will fork beside a GPU: a backward pass starts a
    thread per device, and an optimizer's step initialises CUDA.
    """
    torch.set_num_threads(1)
    mode = "inference" if forward_only else "train"
    for optimizer in ("sgd",) if forward_only else ("sgd", "adam"):
        tiny = Workload(
            mode=mode, optimizer=optimizer, width=8, in_features=8, batch=4, device=device
        )
        built = training.build(tiny, data.source(tiny))
        training.step(built)
        training.step(built)


def run_job(job: Job, send: Send) -> int:
    """Do ``job`` in a primed process; send its result or failure; return the exit code."""
    try:
        apply_policy(job.workload.malloc)
        result = _do(job, _announcer(job, send))
    except BaseException as error:
        failure = Failure(
            type=type(error).__name__,
            message=str(error)[:2000],
            out_of_memory=is_out_of_memory(error),
            users_mistake=isinstance(error, HarnessError),
        )
        send(Message(failure=failure))
        return 1
    send(Message(result=result))
    return 0


def _announcer(job: Job, send: Send) -> training.Phase:
    """Return a phase manager that tells the parent each phase as it begins."""
    pending = [job.inject] if job.inject else []

    @contextmanager
    def announce(name: str) -> Iterator[None]:
        send(Message(phase=name))
        if name == "forward" and pending:
            _inject(pending.pop())
        yield

    return announce


def _inject(fault: str) -> None:
    """Fail for real, as the hidden option of ``harness measure`` asks."""
    if fault == "kill":
        os.kill(os.getpid(), 9)
    elif fault == "hang":
        while True:
            time.sleep(3600)
    elif fault == "oom":
        torch.empty(1 << 60, dtype=torch.uint8)
    raise RuntimeError("an injected error")


def _do(job: Job, announce: training.Phase) -> dict[str, Any]:
    workload = job.workload
    torch.set_num_threads(workload.threads)
    if workload.device == "cuda":
        prime("cuda")
        torch.set_num_threads(workload.threads)
    if job.kind == "training_run":
        return training_run.run(job) | {"environment": _environment(workload)}
    fill = data.source(workload)
    match job.kind:
        case "trace":
            trace = passes.trace_pass(workload, fill, announce)
            events = [list(event) for event in trace.events] if job.keep_events else None
            return {"figures": trace_figures(trace), "events": events}
        case "probe":
            return probe.run(job, fill, announce)
        case "passes":
            return _measured_passes(job, fill, announce)


def _build_and_step(
    workload: Workload, fill: data.Fill, announce: training.Phase, *, steps: int
) -> training.Built:
    with announce("build"):
        built = training.build(workload, fill)
    for _ in range(steps):
        training.step(built, announce)
    return built


def _measured_passes(job: Job, fill: data.Fill, announce: training.Phase) -> dict[str, Any]:
    built = _build_and_step(job.workload, fill, announce, steps=1)
    repeats = [passes.plain_pass(built, announce) for _ in range(job.repeats)]
    figures = passes.saved_pass(built, announce)
    return {"repeats": repeats, "figures": figures, "environment": _environment(job.workload)}


def _environment(workload: Workload) -> dict[str, Any]:
    """Return what only a process with torch in it knows."""
    facts: dict[str, Any] = {"torch": str(torch.__version__), "threads": torch.get_num_threads()}
    facts["cpu_capability"] = torch.backends.cpu.get_cpu_capability()
    facts["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if workload.device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        facts["gpu"] = properties.name
        facts["gpu_memory_bytes"] = properties.total_memory
        facts["gpu_capability"] = f"{properties.major}.{properties.minor}"
        facts["cuda"] = torch.version.cuda
        facts["allocator_settings"] = os.environ.get(
            "PYTORCH_ALLOC_CONF", os.environ.get("PYTORCH_CUDA_ALLOC_CONF", "")
        )
    return facts


def line_sender(descriptor: int) -> Send:
    """Return a function that writes messages as JSON lines to a file descriptor."""
    encoder = msgspec.json.Encoder()

    def send(message: Message) -> None:
        rest = memoryview(encoder.encode(message) + b"\n")
        while rest:
            rest = rest[os.write(descriptor, rest) :]

    return send


def main() -> int:
    """Do the job on standard input; results go to what was standard output."""
    channel = os.dup(1)
    os.dup2(2, 1)  # so that nothing a library prints is taken for a result
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    disable_huge_pages()
    prime()
    prime_products()
    return run_job(job, line_sender(channel))


if __name__ == "__main__":
    sys.exit(main())
