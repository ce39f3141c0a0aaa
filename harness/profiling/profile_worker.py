"""Traces one module's step in a process of its own: the request on standard input."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import torch

from harness.instruments.forward_hooks import wrapped_forwards
from harness.measurement.process.guards import die_first_for_memory
from harness.measurement.process.messages import Failure, Message
from harness.measurement.process.outcome import is_out_of_memory
from harness.measurement.process.worker import Send, line_sender
from harness.profiling.layer_outputs import LayerOutputs
from harness.profiling.module_trace import trace
from harness.schema.errors import HarnessError
from harness.schema.module_request import Request
from harness.training.load_target import builder_of
from harness.training.module_step import Step, StepError, make_optimizer, run_step


def main() -> int:
    """Trace the step that is asked for; the result goes to what was standard output."""
    die_first_for_memory()
    channel = os.dup(1)
    os.dup2(2, 1)  # so that nothing the module prints is taken for a result
    sys.path.insert(0, str(Path.cwd()))
    send = line_sender(channel)
    try:
        request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
        send(Message(result=_do(request, send)))
    except BaseException as error:
        failure = Failure(
            type=type(error).__name__,
            message=str(error)[:2000],
            out_of_memory=is_out_of_memory(error),
            users_mistake=isinstance(error, HarnessError),
        )
        send(Message(failure=failure))
        return 1
    return 0


def _do(request: Request, send: Send) -> dict[str, Any]:
    torch.set_num_threads(request.threads)
    torch.manual_seed(0)
    step = _prepare(request)

    @contextmanager
    def announce(name: str) -> Iterator[None]:
        send(Message(phase=name))
        yield

    outputs = LayerOutputs()
    try:
        with wrapped_forwards(step.model, outputs.named):
            run_step(step, announce)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        if is_out_of_memory(error) or not _is_of_shape(error):
            raise
        shape = (request.batch, *request.input_shape)
        rule = f"{request.target} does not take an input of {shape}"
        raise StepError(f"input: {rule}: {str(error).splitlines()[0]}") from error
    inputs = [t for t in (step.x, step.y) if t is not None]
    with trace(step.model, optimizer=step.optimizer or (), inputs=inputs) as result:
        run_step(step, announce)
    rows = [list(event) for event in result.trace.events]
    return {
        "metrics": msgspec.to_builtins(result.metrics()),
        "events": rows,
        "layers": outputs.rows(step.model),
        "notes": result.notes,
    }


def _is_of_shape(error: BaseException) -> bool:
    """Whether an error of a first step speaks of what was fed to the module."""
    words = ("shape", "size", "dimension", "channels", "expected", "dtype", "index out of range")
    return any(word in str(error).lower() for word in words)


def _prepare(request: Request) -> Step:
    model = builder_of(request.target, {})()
    training = request.mode == "train"
    model.train(training)
    dtype: torch.dtype = getattr(torch, request.input_type)
    shape = (request.batch, *request.input_shape)
    x = torch.zeros(shape, dtype=dtype)
    y = None
    if training and request.loss == "cross-entropy":
        y = torch.arange(request.batch) % (request.classes or 1)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = make_optimizer(request.optimizer, trained) if training else None
    return Step(model=model, x=x, y=y, optimizer=optimizer, loss=request.loss, mode=request.mode)
