"""Traces steps of any network, on the CPU or on a pretended GPU."""

from functools import partial
from pathlib import Path

import msgspec

from harness.planning.ask_worker import ended_question
from harness.planning.pretended_workers import checked
from harness.planning.step_question import SEED, Count, TraceStep
from harness.prediction.gpu.catalogue import gpu_of
from harness.processes.environment import describe, versions
from harness.processes.launcher import Launcher
from harness.processes.outcome import classify
from harness.schema.errors import HarnessError
from harness.schema.metrics import Metrics
from harness.schema.provenance import Environment
from harness.schema.record import Outcome
from harness.schema.step_request import StepRequest, own_places
from harness.schema.traced_run import StepJob, StepRun
from harness.schema.units import format_bytes
from harness.schema.workload import Workload
from harness.sweeps.experiment_files import placed_job
from harness.sweeps.local_runner import LocalRunner


class TracedRunner(LocalRunner[StepJob, StepRun]):
    """Traces each step in a fork of a process in which PyTorch is already loaded."""

    line = StepRun

    def __init__(self, deadline_seconds: float, steps_from: str | Path = Path()) -> None:
        super().__init__(deadline_seconds)
        self._steps_from = steps_from

    def run(self, job: StepJob, attempt: int) -> StepRun:
        """Run the job; return the metrics of its step, or the numbers that ``network`` returns."""
        on_gpu = job.device == "cuda"
        launcher = None if on_gpu else self._slot.launcher("pinned")
        line = partial(StepRun, job=job, attempt=attempt, environment=_surroundings(job, launcher))
        try:
            kind = Count if job.counts else TraceStep
            question = kind(
                request=_request_of(job, self._steps_from),
                device=job.device,
                gpus=(checked(gpu_of(job.gpu)),) if on_gpu else (),
            )
            end = ended_question(question, self._deadline_seconds, launcher=launcher)
        except HarnessError as error:  # no GPU can be pretended here
            return line(outcome=Outcome.UNSUPPORTED, evidence={"message": str(error)})
        outcome, evidence = classify(end)
        if outcome is not Outcome.OK or end.result is None:
            return line(outcome=outcome, evidence=evidence)
        if job.counts:
            return line(outcome=outcome, counted=end.result)
        metrics = {name: end.result[name] for name in Metrics.__struct_fields__}
        return line(outcome=outcome, metrics=msgspec.convert(metrics, Metrics))

    def describe(self, line: StepRun) -> str:
        """Return the job, its outcome and its peak in one line."""
        peak = line.metrics.peak_live_bytes if line.metrics else None
        known = "" if peak is None else f", peak {format_bytes(peak)}"
        return f"{line.job}: {line.outcome}{known}"


def _surroundings(job: StepJob, launcher: Launcher | None) -> Environment:
    """Return the environment of a step; if ``launcher`` is None, the GPU is pretended."""
    malloc = "system" if launcher is None else "pinned"
    named = "dry run" if launcher is None else launcher.name
    own: Environment = {
        "device": f"pretended {job.gpu}" if launcher is None else job.device,
        "threads": StepRequest().threads,
        "seed": SEED,
    }
    return describe(Workload(malloc=malloc), named) | own | versions("transformers", "triton")


def _request_of(job: StepJob, start: str | Path) -> StepRequest:
    """Return the request with which a worker runs the step of ``job``."""
    job = placed_job(job, start)
    same = "optimizer loss inputs_from batch inputs classes mode autocast accumulate compile"
    return StepRequest(
        target=job.network,
        arguments=tuple(f"{name}={value!r}" for name, value in job.arguments.items()),
        **{name: getattr(job, name) for name in same.split()},
        **own_places(),
    )
