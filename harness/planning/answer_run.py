"""A training loop of the user traced as a whole, and a function that counts."""

import pickle
from contextlib import nullcontext
from functools import partial

import msgspec

from harness.dry_runs.compiled import watch
from harness.dry_runs.library_notes import refusing_old_cudnn
from harness.dry_runs.unknown_values import listed
from harness.measurement.environment import pretended_device
from harness.measurement.process.forked_call import in_fork
from harness.measurement.step_trace import trace_run
from harness.planning.answer_gpus import by_dry_run, tell, traced_in_fork
from harness.planning.step_bench import loop_bench, use_gpu
from harness.planning.step_needs import Need
from harness.planning.step_question import Count, FitsOnGpus, TraceRun
from harness.planning.step_search import StepSearch
from harness.schema.errors import UnsupportedError
from harness.schema.step_report import StepReport
from harness.training.module_step import Phase
from harness.training.requested_step import find_modules, load_target


def traced_run(question: TraceRun) -> StepReport:
    """Return the report of the user's training loop, and whether it fits if that is a question."""
    find_modules(question.request)
    gpu = question.gpus[0]
    sent = pickle.loads(question.request.sent)
    call = sent["run"] if sent["shapes"] is None else partial(sent["run"], sent["shapes"])

    report = traced_in_fork(question, lambda: trace_run(call))
    if not question.fits or not gpu.total_bytes:
        return by_dry_run(question, report, FitsOnGpus(fits=()))
    assert report.cuda is not None, "the run used the GPU"
    peaks = report.cuda.allocated_peak_bytes or 0, report.cuda.reserved_peak_bytes or 0

    def fits() -> FitsOnGpus:
        bench = loop_bench(call, use_gpu(question, gpu))
        search = StepSearch(bench, batch=1, settings=question.settings)
        search.needs[1] = Need(*peaks, *peaks, report.notes)
        return FitsOnGpus(fits=tuple(search.fits([gpu])))

    return by_dry_run(question, report, in_fork(fits))


def counted(question: Count, announce: Phase) -> dict[str, int]:
    """Return what the target, a function, counts."""
    find_modules(question.request)

    def call() -> dict[str, int]:
        values = use_gpu(question, question.gpus[0]) if pretends else None
        if values is not None:
            watch(partial(tell, announce), pretended=True)
        target = load_target(str(question.request.target))
        with refusing_old_cudnn() if pretends else nullcontext():
            counts = target(**question.request.named_arguments())
        numbers = msgspec.convert(counts, dict[str, int])
        if values is not None:
            values.refuse_unknown_sizes()
            if lines := values.deciding_lines():
                raise UnsupportedError(
                    f"it depends on values that nobody knows, at {listed(lines)}"
                )
        return numbers

    pretends = question.device == "cuda" and pretended_device() is not None
    with announce("forward"):
        return in_fork(call) if pretends else call()
