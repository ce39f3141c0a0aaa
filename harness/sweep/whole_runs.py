"""Whole training runs of several networks under several instruments, a worker each.

Every run that ended is one line in the folder's observations; the same call goes on where an
interrupted one stopped. Each network's single step is measured, too, as a record.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from harness.measurement.environment import describe
from harness.measurement.measure import measure
from harness.measurement.process.launcher import Launcher, default_launcher
from harness.measurement.process.messages import Ended, Job, RunPlan
from harness.measurement.process.outcome import classify
from harness.schema.record import Outcome, Record
from harness.schema.workload import Workload
from harness.sweep import observations
from harness.sweep.store import MAX_ATTEMPTS, Store

if TYPE_CHECKING:
    from harness.sweep.sweep import Progress

_RETRIED = ("killed", "crashed")


def measure_all(
    name: str,
    models: Sequence[str],
    plans: Sequence[dict[str, Any]],
    folder: Path,
    progress: "Progress",
    deadline_seconds: float,
    *,
    device: str,
    real_images: bool,
) -> None:
    """Run what ``folder`` does not hold yet, on real images where asked for and there.

    Each of ``plans`` holds the fields of a ``RunPlan``; every model is trained by every plan.

    Raises:
        StoreError, ObservationError: the folder cannot be used.
        LaunchError: no worker process can be started at all.

    """
    with Store(folder) as store:
        units = [(model, msgspec.convert(plan, RunPlan)) for model in models for plan in plans]
        found = list(observations.read(folder))
        left = [unit for unit in units if not _finished(found, *unit)]
        progress.begin(name, cells=len(units), done=len(units) - len(left), repairs=store.repairs)
        launcher = default_launcher("pinned")
        try:
            data = "synthetic"
            if real_images and left:
                data = _data(found, launcher, folder, deadline_seconds)
            started = time.monotonic()
            for number, (model, run) in enumerate(left, 1):
                workload = Workload(model=model, data=data, device=device)
                if not store.is_finished(workload.id):
                    store.append(
                        measure(workload, deadline_seconds=deadline_seconds, launcher=launcher)
                    )
                ended = launcher.launch(
                    Job(kind="training_run", workload=workload, run=run), deadline_seconds
                )
                line = _observation(workload, run, launcher.name, ended)
                observations.append(folder, line)
                rest = len(left) - number
                estimate = rest * (time.monotonic() - started) / number
                progress.cell(_record(workload, line), left=rest, seconds_left=estimate)
        finally:
            launcher.close()


def _finished(found: Sequence[dict[str, Any]], model: str, run: RunPlan) -> bool:
    """Whether a unit ended well, or in a way that another attempt would not change."""
    own = [
        one["outcome"]
        for one in found
        if one["outcome"] != "no images"
        and one["workload"]["model"] == model
        and one["plan"] == msgspec.to_builtins(run)
    ]
    return len(own) >= MAX_ATTEMPTS or any(outcome not in _RETRIED for outcome in own)


def _data(
    found: Sequence[dict[str, Any]],
    launcher: Launcher,
    folder: Path,
    deadline_seconds: float,
) -> str:
    """Return where the images come from; that the real ones are missing is an observation."""
    job = Job(
        kind="training_run",
        workload=Workload(data="fashion-mnist"),
        run=RunPlan(epochs=0, examples=1, validation=1),
    )
    failure = launcher.launch(job, deadline_seconds).failure
    if failure is None or not failure.users_mistake:
        return "fashion-mnist"
    if all(one["outcome"] != "no images" for one in found):
        observations.append(folder, {"outcome": "no images", "message": failure.message})
    return "synthetic"


def _observation(workload: Workload, run: RunPlan, launcher: str, ended: Ended) -> dict[str, Any]:
    outcome, evidence = classify(ended)
    result = dict(ended.result or {})
    environment = describe(workload, launcher) | result.pop("environment", {})
    return {
        "workload": msgspec.to_builtins(workload),
        "instrument": run.instrument,
        "plan": msgspec.to_builtins(run),
        "outcome": outcome.value,
        "evidence": evidence,
        "environment": environment,
        "seconds": ended.seconds,
        "result": result if outcome is Outcome.OK else None,
    }


def _record(workload: Workload, line: dict[str, Any]) -> Record:
    """Return what the progress is told of a run."""
    peaks = (line["result"] or {}).get("steps", {}).get("peak_bytes")
    return Record(
        workload_id=workload.id,
        workload=workload,
        outcome=Outcome(line["outcome"]),
        evidence=line["evidence"],
        peak_live_bytes=max(peaks) if peaks else None,
    )
