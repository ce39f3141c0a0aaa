"""Runs single steps of workloads through an executor."""

import dataclasses
from concurrent.futures import Future
from typing import cast

from harness.prediction.predict_workload import predict
from harness.schema.provenance import Environment
from harness.schema.record import Outcome, Record
from harness.schema.units import format_bytes
from harness.sweeps.executors import Cell, Executor, Measured
from harness.sweeps.runner import Runner, ended, origin_of_line


class StepRunner(Runner[Cell, Record]):
    """Measures cells, except those that are predicted not to fit; its caller ends the executor."""

    line = Record

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def capacity(self) -> int:
        """Return the executor's capacity."""
        return self._executor.capacity()

    def submit(self, job: Cell, attempt: int) -> "Future[Measured]":
        """Begin to measure ``job``, or refuse it at once."""
        room_bytes = self._executor.room_bytes(job.workload)
        if room_bytes is not None:
            needed_bytes = predict(job.workload).peak_live_bytes
            if needed_bytes is not None and needed_bytes > room_bytes:
                return ended(_refused(job, needed_bytes, room_bytes))
            job = dataclasses.replace(job, needed_bytes=needed_bytes)
        return self._executor.submit(job, attempt)

    def check(self) -> None:
        """Let the executor settle what fell silent."""
        self._executor.check()

    def describe(self, line: Record) -> str:
        """Return workload, outcome and peak."""
        peak = line.peak_live_bytes
        known = "" if peak is None else f", peak {format_bytes(peak)}"
        return f"{line.workload}: {line.outcome}{known}"


def _refused(cell: Cell, needed_bytes: int, room_bytes: int) -> Record:
    """Return the record of a cell that is predicted to fit nowhere and was not run.

    Attempt 0 and an outcome of its own: it must never pass for a measured failure.
    """
    return Record(
        workload_id=cell.workload.id,
        workload=cell.workload,
        outcome=Outcome.REFUSED,
        evidence={
            "message": "predicted to fit into no place there is; nothing was run",
            "needed_bytes": needed_bytes,
            "room_bytes": room_bytes,
        },
        attempt=0,
        environment=cast("Environment", origin_of_line()),
    )
