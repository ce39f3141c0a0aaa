"""Answers a question about a step, in a worker: on this CPU or GPU, or on pretended GPUs.

On pretended GPUs every part runs in a fork that has not used CUDA, as many at once as there are
processors: one records the traced step, one for each kind of GPU tries it at other batches.
"""

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
import torch

from harness.dry_run.compiled import watch
from harness.dry_run.own_code import is_own
from harness.measurement.pretended_device import pretended_device
from harness.measurement.process.forked_call import ForkedCall
from harness.measurement.step_trace import trace_step
from harness.planning.plan_answer import plan_answer
from harness.planning.run_answer import run_answer
from harness.planning.step_bench import ENDLESS_BYTES, StepBench, use_gpu
from harness.planning.step_question import GpuOption, StepAnswer, StepQuestion
from harness.planning.step_search import fits_of
from harness.planning.step_values import StepValues
from harness.schema.errors import UnsupportedError
from harness.schema.memory_fit import GpuFit
from harness.training.own_step import OwnStep
from harness.training.requested_step import requested_step
from harness.training.training_step import Phase, no_phase

_MEMORY = ("MEMORY", "OUTSIDE", "NAME")


def answer(request: bytes, announce: Phase) -> dict[str, Any]:
    """Return the answer to an encoded ``StepQuestion`` as plain data."""
    asked = msgspec.json.decode(request, type=StepQuestion)
    torch.set_num_threads(asked.request.threads)
    torch.manual_seed(0)
    if asked.run:
        return dict(msgspec.to_builtins(run_answer(asked)))
    own = requested_step(asked.request)
    if asked.device == "cuda" and own.compile in CUDA_GRAPHS:
        raise UnsupportedError(GRAPHS)
    if asked.plan:
        return dict(msgspec.to_builtins(StepAnswer(plan=plan_answer(asked, own, announce))))
    if asked.device == "cpu" or not pretended_device():
        found = _traced(own.with_values(), asked.device, announce, with_values=True)
    else:
        found = _on_pretended_gpus(asked, own, announce)
    return dict(msgspec.to_builtins(found))


def _on_pretended_gpus(asked: StepQuestion, own: OwnStep, announce: Phase) -> StepAnswer:
    traced: ForkedCall[StepAnswer] | None = None
    if asked.trace:
        traced = ForkedCall(partial(_traced_on_pretended_gpu, asked, own, announce))
    known = [gpu for gpu in asked.gpus if gpu.total_bytes] if asked.fits else []
    try:
        fits = _fits(asked, own, known, also_tracing=traced is not None)
    except BaseException:
        if traced is not None:
            traced.result()  # its own error comes first: it has the user's line
        raise
    if traced is None:
        return StepAnswer(fits=tuple(fits))
    return msgspec.structs.replace(traced.result(), fits=tuple(fits))


def _traced_on_pretended_gpu(asked: StepQuestion, own: OwnStep, announce: Phase) -> StepAnswer:
    values = _used(asked, asked.gpus[0])
    found = _traced(own, "cuda", announce, with_values=False)
    values.refuse_unknown_sizes()
    return msgspec.structs.replace(found, notes=(*values.notes(), *found.notes))


def _traced(own: OwnStep, device: str, announce: Phase, *, with_values: bool) -> StepAnswer:
    """Return the traced step, and what was compiled for it.

    Raises:
        UnsupportedError: the step is to be compiled, and nothing was.

    """

    def tell(words: str) -> None:
        with announce(words):
            pass

    compilations = watch(is_own, tell, pretended=pretended_device() is not None)
    traced = trace_step(own, device, announce if with_values else no_phase, with_values=with_values)
    compiled = compilations.compiled()
    if device == "cuda" and _has_pools():
        raise UnsupportedError(GRAPHS)
    if own.compile is not None and (compiled is None or not compiled.graphs):
        found = () if compiled is None else (*compiled.fallbacks, *compiled.break_places)
        why = ": " + "; ".join(found) if found else ""
        raise UnsupportedError(f"torch.compile compiled nothing{why}")
    return StepAnswer(
        metrics=traced.metrics,
        events=traced.events,
        layers=traced.layers,
        compiled=compiled,
        notes=() if compiled is None else (*compiled.notes(), INSIDE if own.compile else NOT_ASKED),
    )


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


def _used(asked: StepQuestion, gpu: GpuOption) -> StepValues:
    return use_gpu(
        gpu.variables,
        memory_bytes=ENDLESS_BYTES,
        settings=asked.settings,
        answers=asked.request.answers,
    )


def _fits(
    asked: StepQuestion, own: OwnStep, gpus: Sequence[GpuOption], *, also_tracing: bool
) -> list[GpuFit]:
    """Return the verdict on each GPU; those that differ in memory alone share a bench."""
    kinds: dict[tuple[tuple[str, str], ...], list[GpuOption]] = {}
    for gpu in gpus:
        key = tuple(item for item in gpu.variables.items() if not item[0].endswith(_MEMORY))
        kinds.setdefault(key, []).append(gpu)
    waiting = [partial(_fits_of_kind, asked, own, alike) for alike in kinds.values()]
    running: list[ForkedCall[list[GpuFit]]] = []
    found: list[GpuFit] = []
    at_once = max(1, (os.cpu_count() or 1) - also_tracing)
    while waiting or running:
        while waiting and len(running) < at_once:
            running.append(ForkedCall(waiting.pop(0)))
        found += running.pop(0).result()
        at_once = os.cpu_count() or 1
    order = {gpu.name: place for place, gpu in enumerate(gpus)}
    return sorted(found, key=lambda fit: order[fit.gpu])


def _fits_of_kind(asked: StepQuestion, own: OwnStep, gpus: Sequence[GpuOption]) -> list[GpuFit]:
    values = _used(asked, gpus[0])
    watch(is_own, lambda _: None, pretended=True)  # Inductor chooses as it does for the trace
    bench = StepBench(own, values)
    return fits_of(
        bench,
        own,
        gpus,
        settings=asked.settings,
        find_largest=asked.largest,
        find_best=len(asked.gpus) == 1,  # a table has the batch that surely fits
    )


def _has_pools() -> bool:
    """Return whether a CUDA graph, or the program, keeps blocks in a private pool."""
    snapshot: Any = torch.cuda.memory_snapshot
    return any(any(segment["segment_pool_id"]) for segment in snapshot())
