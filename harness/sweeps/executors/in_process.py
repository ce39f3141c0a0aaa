"""Runs cells in the current process, for a debugger."""

import os
import time
from concurrent.futures import Future
from io import BytesIO
from unittest.mock import patch

import msgspec

from harness.measurement.probe_job import Probe
from harness.processes.launch import OnPhase, Report
from harness.processes.launcher import Launcher, LaunchError
from harness.processes.messages import Answer, Ended, Work
from harness.sweeps.executors.local import Slot
from harness.sweeps.runner import Cell, Executor, Measured, ended


class InProcessExecutor(Executor):
    """Measures cells in the process of the sweep, so that a debugger can stop in a step.

    If a step crashes or the kernel kills the process, the sweep ends. Deadlines and budgets are not
    enforced, and the malloc policy has no effect. Earlier cells disturb RSS and times, so these
    metrics are null. The allocators' byte metrics are exact.
    """

    name = "in-process"

    def __init__(self) -> None:
        self._slot = Slot(InProcessLauncher())

    def submit(self, cell: Cell, attempt: int) -> "Future[Measured]":
        """Measure ``cell`` at once; the returned future is already done."""
        return ended(*self._slot.measure(cell, attempt, self.name, jobs=1, disturbed=True))


class InProcessLauncher(Launcher):
    """Runs a job in this process, so there is no process to stop or to close."""

    name = "in-process"

    def __init__(self) -> None:
        self._primed = False

    def launch(
        self, job: Work[Answer], deadline_seconds: float, on_phase: OnPhase | None = None
    ) -> Ended[Answer]:
        """Run ``job`` to its end, without a deadline."""
        del deadline_seconds
        if isinstance(job, Probe) and job.budget_bytes is not None:
            raise LaunchError("a budget needs a process of its own")
        from harness.processes import worker

        if not self._primed:
            worker.prime()
            self._primed = True
        report = Report(on_phase)
        started = time.monotonic()
        with patch.dict(os.environ):  # undoes what a job sets for a process of its own
            code = worker.run_job(
                job.as_call(), lambda said: report.feed(msgspec.json.encode(said) + b"\n")
            )
        return report.ended(BytesIO(), started, exit_code=code)
