"""Measures a workload in worker processes, and merges the results into one record."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from harness.measurement.pass_jobs import Passes, RunPasses, TraceWorkload
from harness.measurement.workload_memory import refuse_workload
from harness.processes.environment import describe
from harness.processes.launcher import Launcher, LaunchError, default_launcher
from harness.processes.messages import Ended
from harness.processes.outcome import classify, is_under_limit
from harness.schema.errors import HarnessError
from harness.schema.events import Event, Trace
from harness.schema.provenance import Environment
from harness.schema.record import Outcome, Record
from harness.schema.workload import Workload, check_workload

DEADLINE_SECONDS = 600.0


def measure(
    workload: Workload,
    *,
    repeats: int = 3,
    deadline_seconds: float = DEADLINE_SECONDS,
    force: bool = False,
    inject: str | None = None,
    launcher: Launcher | None = None,
    fresh_servers: bool = False,
) -> Record:
    """Measure a workload in worker processes, as ``harness.measure`` does.

    If ``fresh_servers`` is true, each repeat runs in a worker of a new fork server.
    """
    check_workload(workload)
    if not force:
        refuse_workload(workload)
    record, _ = measure_traced(
        workload,
        repeats=repeats,
        deadline_seconds=deadline_seconds,
        inject=inject,
        launcher=launcher,
        fresh_servers=fresh_servers,
        keep_events=False,
    )
    return record


def measure_traced(
    workload: Workload,
    *,
    repeats: int = 3,
    deadline_seconds: float = DEADLINE_SECONDS,
    inject: str | None = None,
    launcher: Launcher | None = None,
    fresh_servers: bool = False,
    keep_events: bool = True,
    attempt: int = 1,
) -> tuple[Record, Trace | None]:
    """Measure a workload; return its record, and its allocation trace or None."""
    used = launcher or default_launcher(workload.malloc)
    try:
        job = RunPasses(
            workload=workload, repeats=repeats, inject=inject, deadline_seconds=deadline_seconds
        )
        launch = _in_fresh_servers if fresh_servers else _in_one_process
        passes = launch(used, job, deadline_seconds)
        if classify(passes)[0] is not Outcome.OK:
            return _record(workload, used.name, attempt, {"passes": passes}), None
        traced = used.launch(
            TraceWorkload(workload=workload, keep_events=keep_events), deadline_seconds
        )
    finally:
        if launcher is None:
            used.close()
    record = _record(workload, used.name, attempt, {"passes": passes, "trace": traced})
    events = traced.result["events"] if traced.result is not None else None
    return record, Trace([Event(*row) for row in events]) if events else None


def _in_one_process(launcher: Launcher, job: RunPasses, deadline_seconds: float) -> Ended[Passes]:
    """Run all repeats in one worker; add the fork server's name to each repeat's result."""
    ended = launcher.launch(job, deadline_seconds)
    for repeat in () if ended.result is None else ended.result["repeats"]:
        repeat["fork_server"] = ended.fork_server
    return ended


def _in_fresh_servers(launcher: Launcher, job: RunPasses, deadline_seconds: float) -> Ended[Passes]:
    """Run each repeat in a worker of a new fork server; stop at the first failure."""
    repeats: list[dict[str, Any]] = []
    for number in range(job.repeats):
        launcher.close()  # it starts again when it is used
        one = msgspec.structs.replace(job, repeats=1, first_repeat=number)
        ended = _in_one_process(launcher, one, deadline_seconds)
        if classify(ended)[0] is not Outcome.OK or ended.result is None:
            return ended
        repeats += ended.result["repeats"]
        ended.result["repeats"] = repeats
    return ended


def _record(
    workload: Workload, launcher: str, attempt: int, ended: Mapping[str, Ended[Any]]
) -> Record:
    """Merge the results of the jobs into a record; the first failure determines the outcome."""
    fields: dict[str, Any] = {"outcome": Outcome.OK}
    metrics: dict[str, Any] = {}
    sources: dict[str, str] = {}
    process: dict[str, int] | None = None
    environment = describe(workload, launcher)
    for name, story in ended.items():
        if story.failure is not None and story.failure.users_mistake:
            raise HarnessError(story.failure.message)
        if story.failure is not None and is_under_limit(story.failure):
            raise LaunchError(f"a worker process met a limit: {story.failure.message}")
        outcome, evidence = classify(story)
        if outcome is not Outcome.OK:
            fields |= {"outcome": outcome, "evidence": {"job": name, **evidence}}
            break
        result = story.result or {}
        metrics |= result["metrics"]
        sources |= dict.fromkeys(result["metrics"], "saved" if name == "passes" else "trace")
        if name == "passes":
            environment |= result["environment"]
            servers = {repeat.get("fork_server") for repeat in result["repeats"]}
            environment["fork_server"] = servers.pop() if len(servers) == 1 else None
            summary = _summary(result["repeats"], environment, sources)
            if "cuda" in result:  # next to that of the plain passes
                summary["cuda"] |= result["cuda"]
            fields |= summary
            process = result.get("process")
            if (host := result.get("host")) is not None:
                fields["host"] = host
                sources["host"] = "plain"
        elif process is not None and "rss_peak_bytes" in fields:
            fields["process"] = _parts(process, fields["rss_peak_bytes"], metrics)
            sources["process"] = "plain"
    return msgspec.convert(
        {
            "workload_id": workload.id,
            "workload": workload,
            "attempt": attempt,
            "environment": environment,
            "passes": sources,
            **fields,
            **metrics,
        },
        Record,
    )


def _parts(known: dict[str, int], peak_bytes: int, metrics: dict[str, Any]) -> dict[str, int]:
    """Return the parts of the process's peak RSS; the heap is the remainder."""
    parts = known | {"tensors_bytes": metrics["peak_live_bytes"]}
    return parts | {"heap_bytes": peak_bytes - sum(parts.values())}


def _summary(
    repeats: Sequence[dict[str, Any]], environment: Environment, sources: dict[str, str]
) -> dict[str, Any]:
    """Return the repeats, the medians of their metrics, and the highest CUDA peaks."""
    numbered = []
    for number, repeat in enumerate(repeats, 1):
        environment["rss_source"] = repeat.pop("rss_source", None)
        numbered.append({"number": number, **repeat})
    summary: dict[str, Any] = {"repeats": numbered}
    for name in ("wall_seconds", "rss_rise_bytes", "rss_peak_bytes"):
        values = [repeat[name] for repeat in repeats if repeat.get(name) is not None]
        if values:
            summary[name] = statistics.median_low(values)
    peaks = [repeat["cuda"] for repeat in repeats if repeat.get("cuda")]
    if peaks:
        summary["cuda"] = {key: max(peak[key] for peak in peaks) for key in peaks[0]}
    sources |= {name: "plain" for name in summary if name != "repeats"}
    return summary
