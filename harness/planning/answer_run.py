"""Traces the user's whole training loop on a pretended GPU."""

import pickle
from functools import partial

from harness.dry_runs.left_out_values import leave_values_out
from harness.measurement.step_trace import trace_run
from harness.planning.answer_gpus import with_fit
from harness.planning.answer_pretended import tried_in_fork
from harness.planning.predict_questions import FitsOnGpus, TraceRun
from harness.planning.step_answer import answering
from harness.planning.step_bench import loop_bench
from harness.planning.step_needs import Need
from harness.planning.step_search import StepSearch
from harness.planning.step_values import use_gpu
from harness.processes.forked_call import in_fork
from harness.schema.step_report import StepReport
from harness.training.module_step import Phase
from harness.training.requested_step import find_modules


@answering(TraceRun, leave_values_out)
def traced_run(question: TraceRun, announce: Phase) -> StepReport:
    """Trace the training loop; if requested, also check whether the loop fits on the GPU."""
    del announce
    find_modules(question.request)
    gpu = question.gpus[0]
    sent = pickle.loads(question.request.sent)
    call = sent["run"] if sent["shapes"] is None else partial(sent["run"], sent["shapes"])

    report = tried_in_fork(question, lambda: trace_run(call), has_values=True)
    if not question.fits or not gpu.total_bytes:
        return with_fit(question, report, FitsOnGpus(fits=()))
    assert report.cuda is not None, "the run used the GPU"
    peaks = report.cuda.allocated_peak_bytes or 0, report.cuda.reserved_peak_bytes or 0

    def fits() -> FitsOnGpus:
        bench = loop_bench(call, use_gpu(question, gpu, computes=True))
        search = StepSearch(bench, batch=1, settings=question.settings)
        search.needs[1] = Need(*peaks, *peaks, report.notes)
        return FitsOnGpus(fits=tuple(search.fits([gpu])))

    return with_fit(question, report, in_fork(fits))
