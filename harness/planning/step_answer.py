"""Answers a question about a step, in a worker: on this CPU or GPU, or on pretended GPUs.

On pretended GPUs every part runs in a fork that has not used CUDA, as many at once as there are
processors: one records the traced step, one for each kind of GPU tries it at other batches.
"""

import os
import pickle
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import msgspec
import torch
from msgspec.structs import replace

from harness.dry_run.compiled import watch
from harness.dry_run.pretended_gpu import workspace_bytes
from harness.measurement.environment import pretended_device
from harness.measurement.process.forked_call import ForkedCall, in_fork
from harness.measurement.process.outcome import ForkFailedError
from harness.measurement.step_trace import trace_run, trace_step
from harness.planning.changed_step import changed_step, subject_of
from harness.planning.plan_search import PlanSearch, Subject
from harness.planning.step_bench import Need, loop_bench, step_bench, use_gpu
from harness.planning.step_changes import StepChange
from harness.planning.step_question import GpuOption, StepAnswer, StepQuestion
from harness.planning.step_search import fits_of
from harness.schema.errors import UnsupportedError
from harness.schema.memory_fit import GpuFit
from harness.training.own_step import OwnStep
from harness.training.requested_step import find_modules, load_target, requested_step
from harness.training.training_step import Phase, no_phase

_MEMORY = ("MEMORY", "OUTSIDE", "NAME")

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


def answer(request: bytes, announce: Phase) -> dict[str, Any]:
    """Return the answer to an encoded ``StepQuestion`` as plain data."""
    question = msgspec.json.decode(request, type=StepQuestion)
    torch.set_num_threads(question.request.threads)
    torch.manual_seed(0)
    if question.counts:
        with announce("forward"):
            return _counted(question)
    return dict(msgspec.to_builtins(_answer(question, announce)))


def _answer(question: StepQuestion, announce: Phase) -> StepAnswer:
    if question.run:
        return _of_run(question)
    own = requested_step(question.request)
    if question.device == "cuda" and own.compile in CUDA_GRAPHS:
        raise UnsupportedError(GRAPHS)
    if question.plan:
        return StepAnswer(plan=_plan(question, own, announce))
    if question.device == "cpu" or not pretended_device():
        return _traced(own.with_values(), question.device, announce, with_values=True)
    return _on_pretended_gpus(question, own, announce)


def _counted(question: StepQuestion) -> dict[str, int]:
    """Return what the target, a function, counts."""
    find_modules(question.request)

    def counted() -> dict[str, int]:
        if pretends:
            use_gpu(question, question.gpus[0])
        target = load_target(str(question.request.target))
        return msgspec.convert(target(**question.request.named_arguments()), dict[str, int])

    pretends = question.device == "cuda" and pretended_device() is not None
    return in_fork(counted) if pretends else counted()


def _plan(question: StepQuestion, own: OwnStep, announce: Phase) -> dict[str, Any]:
    """Return what to change so that the step fits on the first GPU, as plain data."""
    gpu = question.gpus[0]

    def fit_of(change: StepChange, micro_batches: int, settings: str) -> GpuFit | str:
        step = changed_step(own, change, micro_batches)
        changed = replace(question, settings=settings)
        try:
            return in_fork(partial(_fits_of_kind, changed, step, (gpu,)))[0]
        except ForkFailedError as error:
            if micro_batches == 1 or error.failure.type != "ValueError":
                raise
            return error.failure.message  # batch normalization refuses one value per channel

    def subject() -> Subject:
        major, minor = map(int, gpu.capability.split("."))
        model = own.network("cpu", with_values=False)
        return subject_of(own, model, gpu=gpu.name, capability=(major, minor))

    search = PlanSearch(in_fork(subject), fit_of, partial(_tell, announce))
    return dict(msgspec.to_builtins(asdict(search.plan(question.settings))))


def _tell(announce: Phase, words: str) -> None:
    with announce(words):
        pass


def _of_run(question: StepQuestion) -> StepAnswer:
    """Return the trace of the user's training loop, and whether it fits if that is a question."""
    find_modules(question.request)
    gpu = question.gpus[0]
    sent = pickle.loads(question.request.sent)
    call = sent["run"] if sent["shapes"] is None else partial(sent["run"], sent["shapes"])

    def traced() -> tuple[StepAnswer, int]:
        values = use_gpu(question, gpu)
        trace, steps = trace_run(call)
        values.refuse_unknown_sizes()
        result = StepAnswer(
            metrics=trace.metrics, events=trace.events, steps=steps, notes=values.notes()
        )
        return result, workspace_bytes()

    result, workspace = in_fork(traced)
    if not question.fits or not gpu.total_bytes:
        return result
    cuda = result.metrics.cuda
    assert cuda is not None, "the run used the GPU"
    peaks = cuda.allocated_peak_bytes or 0, cuda.reserved_peak_bytes or 0
    need = Need(*peaks, *peaks, workspace)

    def fits() -> list[GpuFit]:
        bench = loop_bench(call, use_gpu(question, gpu))
        return fits_of(bench, (gpu,), batch=1, settings=question.settings, need=need)

    return replace(result, fits=tuple(in_fork(fits)))


def _on_pretended_gpus(question: StepQuestion, own: OwnStep, announce: Phase) -> StepAnswer:
    traced: ForkedCall[StepAnswer] | None = None
    if question.trace:
        traced = ForkedCall(partial(_traced_on_pretended_gpu, question, own, announce))
    known = [gpu for gpu in question.gpus if gpu.total_bytes] if question.fits else []
    try:
        fits = _fits(question, own, known, also_tracing=traced is not None)
    except BaseException:
        if traced is not None:
            traced.result()  # its own error comes first: it has the user's line
        raise
    result = StepAnswer() if traced is None else traced.result()
    return replace(result, fits=tuple(fits))


def _traced_on_pretended_gpu(question: StepQuestion, own: OwnStep, announce: Phase) -> StepAnswer:
    values = use_gpu(question, question.gpus[0])
    result = _traced(own, "cuda", announce, with_values=False)
    values.refuse_unknown_sizes()
    return replace(result, notes=(*values.notes(), *result.notes))


def _traced(own: OwnStep, device: str, announce: Phase, *, with_values: bool) -> StepAnswer:
    """Return the traced step and what was compiled for it; refuse one of which nothing was."""
    compilations = watch(partial(_tell, announce), pretended=pretended_device() is not None)
    traced = trace_step(own, device, announce if with_values else no_phase, with_values=with_values)
    compiled = compilations.compiled()
    snapshot: Any = torch.cuda.memory_snapshot
    if device == "cuda" and any(any(segment["segment_pool_id"]) for segment in snapshot()):
        raise UnsupportedError(GRAPHS)  # a CUDA graph, or the program, has a private pool
    if own.compile is not None and (compiled is None or not compiled.graphs):
        reasons = () if compiled is None else (*compiled.fallbacks, *compiled.break_places)
        why = ": " + "; ".join(reasons) if reasons else ""
        raise UnsupportedError(f"torch.compile compiled nothing{why}")
    return StepAnswer(
        metrics=traced.metrics,
        events=traced.events,
        layers=traced.layers,
        compiled=compiled,
        notes=() if compiled is None else (*compiled.notes(), INSIDE if own.compile else NOT_ASKED),
    )


def _fits(
    question: StepQuestion, own: OwnStep, gpus: Sequence[GpuOption], *, also_tracing: bool
) -> list[GpuFit]:
    """Return the verdict on each GPU; those that differ in memory alone share a bench."""
    kinds: dict[tuple[tuple[str, str], ...], list[GpuOption]] = {}
    for gpu in gpus:
        key = tuple(item for item in gpu.variables.items() if not item[0].endswith(_MEMORY))
        kinds.setdefault(key, []).append(gpu)
    running: list[ForkedCall[list[GpuFit]]] = []
    fits: list[GpuFit] = []
    at_once = max(1, (os.cpu_count() or 1) - also_tracing)
    for alike in kinds.values():
        if len(running) == at_once:
            fits += running.pop(0).result()
        running.append(ForkedCall(partial(_fits_of_kind, question, own, alike)))
    for call in running:
        fits += call.result()
    order = {gpu.name: place for place, gpu in enumerate(gpus)}
    return sorted(fits, key=lambda fit: order[fit.gpu])


def _fits_of_kind(question: StepQuestion, own: OwnStep, gpus: Sequence[GpuOption]) -> list[GpuFit]:
    values = use_gpu(question, gpus[0])
    watch(lambda _: None, pretended=True)  # Inductor chooses as it does for the trace
    return fits_of(
        step_bench(own, values),
        gpus,
        batch=own.batch,
        unit=own.accumulate,
        settings=question.settings,
        find_largest=question.largest,
        find_best=len(question.gpus) == 1,  # a table has the batch that surely fits
    )
