"""Traces a step, or calls a function of the user, on this machine's CPU or GPU."""

from typing import Any

import msgspec
import torch
from msgspec.structs import replace

from harness.dry_runs.compiled import Compilations, watch
from harness.measurement.step_trace import trace_step
from harness.planning.step_answer import answering
from harness.planning.step_question import Count, Question, TraceStep
from harness.planning.workspace_row import with_workspace_row
from harness.schema.errors import UnsupportedError
from harness.schema.step_report import StepReport
from harness.training.module_step import Phase
from harness.training.own_step import OwnStep
from harness.training.requested_step import find_modules, load_target, requested_step

CUDA_GRAPHS = ("reduce-overhead", "max-autotune")
GRAPHS = (
    "a CUDA graph that is replayed allocates nothing, so the trace of a step cannot show what its"
    " pool holds; harness dry-run of a script reports the pool"
)
INSIDE = (
    "what compiled code allocates is in the row of the network: of the layers inside it only"
    " parameters, gradients and optimizer state are known"
)
NOT_ASKED = (
    "your own code compiles: a compiled module is a row of its own, but a compiled function that"
    " calls modules may have more breaks here than without the trace"
)


@answering(TraceStep)
def traced(question: TraceStep, announce: Phase) -> StepReport:
    """Trace the step on this machine's CPU or GPU."""
    own = step_of(question)
    compilations = watch(lambda words: tell(announce, words))
    return traced_step(own.with_values(), question.device, announce, compilations)


def step_of(question: Question[Any]) -> OwnStep:
    """Return the step to trace; refuse CUDA graphs, because a trace cannot show their memory."""
    own = requested_step(question.request)
    if question.device == "cuda" and own.compile in CUDA_GRAPHS:
        raise UnsupportedError(GRAPHS)
    return own


def traced_step(
    own: OwnStep, device: str, announce: Phase, compilations: Compilations
) -> StepReport:
    """Trace the step; raise an error if ``torch.compile`` was requested but compiled nothing."""
    report = trace_step(own, device, announce)
    if device == "cuda":
        report = with_workspace_row(report)
    compiled = compilations.compiled()
    snapshot: Any = torch.cuda.memory_snapshot
    if device == "cuda" and any(any(segment["segment_pool_id"]) for segment in snapshot()):
        raise UnsupportedError(GRAPHS)  # a CUDA graph, or the program, has a private pool
    if own.compile is not None and (compiled is None or not compiled.graphs):
        reasons = () if compiled is None else (*compiled.fallbacks, *compiled.break_places)
        why = ": " + "; ".join(reasons) if reasons else ""
        raise UnsupportedError(f"torch.compile compiled nothing{why}")
    if compiled is None:
        return report
    notes = (*compiled.notes(), INSIDE if own.compile else NOT_ASKED)
    return replace(report, compiled=compiled, notes=notes)


@answering(Count)
def counted(question: Count, announce: Phase) -> dict[str, int]:
    """Call the user's function, and return the integers that it returns."""
    with announce("forward"):
        return count(question)


def count(question: Question[Any]) -> dict[str, int]:
    """Call the user's function; check that the function returns a dict of integers."""
    find_modules(question.request)
    target = load_target(str(question.request.target))
    return msgspec.convert(target(**question.request.named_arguments()), dict[str, int])


def tell(announce: Phase, words: str) -> None:
    """Report ``words`` to the user as the current phase of the work."""
    with announce(words):
        pass
