"""Traces steps of any network, one at a time: on this CPU, or on a pretended GPU."""

from concurrent.futures import Future
from typing import Any

import msgspec

from harness.dry_run.for_workers import LAUNCHER
from harness.dry_run.toolchain import torch_version
from harness.measurement.process.launcher import Launcher, default_launcher
from harness.measurement.process.messages import Ended
from harness.measurement.process.outcome import classify
from harness.planning.ask_step import job_of, option_of
from harness.planning.step_question import StepAnswer, StepQuestion
from harness.prediction.gpu.catalogue import gpu_of
from harness.schema.errors import HarnessError
from harness.schema.events import Trace
from harness.schema.record import Outcome, to_json
from harness.schema.step_request import StepRequest, own_places
from harness.schema.traced_run import STEP_RUNS, StepJob, StepRun, from_json
from harness.schema.units import format_bytes
from harness.sweeps.experiment_files import literature_package
from harness.sweeps.runner import Runner, ended, origin_of_line
from harness.sweeps.store import Kind

STEP_RUN = Kind(file=STEP_RUNS, encode=to_json, decode=from_json, cell=lambda one: one.job.id)

_NAMED = ("network", "optimizer", "loss", "inputs_from")


class TracedRunner(Runner[StepJob, StepRun]):
    """Runs each job in a fork of a process that has PyTorch loaded, one for each device."""

    kind = STEP_RUN

    def __init__(self, deadline_seconds: float) -> None:
        self._deadline_seconds = deadline_seconds
        self._launcher: Launcher | None = None

    def cell_id(self, job: StepJob) -> str:
        """Return the job's id."""
        return job.id

    def seconds(self, job: StepJob) -> float:
        """Return a guess: the CPU computes, a pretended GPU does not."""
        return 2.0 if job.device == "cpu" else 1.0

    def submit(self, job: StepJob, attempt: int) -> "Future[tuple[StepRun, Trace | None]]":
        """Run ``job`` now; the future that comes back has ended."""
        line = StepRun(
            job=job,
            outcome=Outcome.OK,
            attempt=attempt,
            environment={
                **origin_of_line(),
                "torch": torch_version(),
                "device": f"pretended {job.gpu}" if job.device == "cuda" else "cpu",
            },
        )
        try:
            outcome, fields = self._outcome(job)
        except HarnessError as error:  # no GPU can be pretended here
            outcome, fields = Outcome.UNSUPPORTED, {"evidence": {"message": str(error)}}
        return ended(msgspec.structs.replace(line, outcome=outcome, **fields))

    def _outcome(self, job: StepJob) -> tuple[Outcome, dict[str, Any]]:
        end = self._launch(job)
        outcome, evidence = classify(end)
        if outcome is not Outcome.OK or end.result is None:
            return outcome, {"evidence": evidence}
        if job.counts:
            return outcome, {"counted": end.result}
        metrics = msgspec.convert(end.result, StepAnswer).metrics
        return outcome, {"metrics": metrics}

    def _launch(self, job: StepJob) -> Ended:
        on_gpu = job.device == "cuda"
        question = StepQuestion(
            request=request_of(job),
            device=job.device,
            gpus=(option_of(gpu_of(job.gpu)),) if on_gpu else (),
            counts=job.counts,
        )
        sent = job_of(question, "dry run" if on_gpu else "here")
        if on_gpu:
            return LAUNCHER.launch(sent, self._deadline_seconds)
        self._launcher = self._launcher or default_launcher("pinned")
        return self._launcher.launch(sent, self._deadline_seconds)

    def describe(self, line: StepRun) -> str:
        """Return the job, how it ended and its peak."""
        peak = line.metrics.peak_live_bytes if line.metrics else None
        known = "" if peak is None else f", peak {format_bytes(peak)}"
        return f"{line.job}: {line.outcome}{known}"

    def close(self) -> None:
        """End the process of the CPU's steps; that of the pretended GPUs stays, as always."""
        if self._launcher is not None:
            self._launcher.close()


def request_of(job: StepJob) -> StepRequest:
    """Return the step as a worker is asked for it."""
    named = {name: _placed(getattr(job, name)) for name in _NAMED}
    same = ("batch", "inputs", "classes", "mode", "autocast", "accumulate", "compile")
    return StepRequest(
        target=named.pop("network"),
        arguments=tuple(f"{name}={value!r}" for name, value in job.arguments.items()),
        **named,
        **{name: getattr(job, name) for name in same},
        **own_places(),
    )


def _placed(name: str | None) -> Any:
    """Return a name with the place of the experiments on the literature before a leading dot."""
    return f"{literature_package()}{name}" if name and name.startswith(".") else name
