"""Loads the saved results of an experiment, and rejects results that contradict each other.

A cell (a job of the experiment) has no numbers if its result is missing, is a failure or
contradicts itself. If a cell was measured several times, the numbers of all attempts must agree.
All results must come from the same PyTorch version, code version and processor. If results
contradict each other, every claim of the experiment is open and states the contradiction.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from msgspec.structs import replace

from harness.analysis import AnalysisError
from harness.analysis.contradictions import contradiction
from harness.analysis.frame import COLUMNS, lines_if_there
from harness.plots.columns import typed_frame
from harness.plots.frames import record_row
from harness.schema import record, threshold, traced_run, training_run
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Claim, Section, Verdict
from harness.schema.metrics import Metrics
from harness.schema.provenance import Environment, FailureEvidence
from harness.schema.record import Outcome, Record
from harness.schema.threshold import Threshold, ThresholdQuestion
from harness.schema.traced_run import StepJob, StepRun
from harness.schema.training_run import TrainingJob, TrainingRun
from harness.schema.workload import Workload

NOT_RUN = "not run"
_NO_METRICS = dict.fromkeys(Metrics.__struct_fields__)
_NOISY = {"rss_rise_bytes", "rss_peak_bytes", "process", "cuda"}
_EXACT = tuple(name for name in Metrics.__struct_fields__ if name not in _NOISY)
_FAR, _FAR_BYTES = 2, 2**20
"""Two attempts contradict each other if their rises of RSS differ by more than this factor and also
by more than this number of bytes."""
_ONE = {"torch": "versions of PyTorch", "code": "versions of the code", "cpu": "processors"}
"""Environment keys that must be equal in all results of an experiment, and their names in
messages."""
_ORIGIN = ("time", "git_commit")


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """One kind of results file of an experiment, such as ``records.jsonl``."""

    file: str
    decode: Callable[[bytes], Any]
    jobs: Callable[[Experiment, Size, str], Iterable[Any]]
    key: Callable[[Any], str]
    """Function that returns the cell name of a job or of a saved result."""
    empty: Callable[[Any], Any]
    """Function that creates a result without numbers for a job that was not run."""
    lost: Mapping[str, Any]
    """Field values that replace the numbers of a contradictory result."""
    numbers: Callable[[Any], object]
    """Function that returns the numbers that must be equal in two attempts at a cell."""


def _threshold_key(one: Threshold | ThresholdQuestion) -> str:
    return f"{one.workload.id}-{one.budget_bytes}"


def _run_key(one: TrainingRun | TrainingJob) -> str:
    return TrainingJob(workload=one.workload.replace(data="synthetic"), plan=one.plan).cell_id


def _step_key(one: StepRun | StepJob) -> str:
    return replace(one.job if isinstance(one, StepRun) else one, gpu="").cell_id


def _asked_question(one: ThresholdQuestion) -> Threshold:
    return Threshold(
        workload_id=one.workload.id,
        workload=one.workload,
        solve="batch",
        budget_bytes=one.budget_bytes,
        kind=one.kind or "rlimit",
        outcome=Outcome.LOST,
    )


def _exact(one: Record) -> object:
    return [getattr(one, name) for name in _EXACT]


def _found(one: Threshold) -> object:
    return (one.largest_fit, one.predicted) if one.workload.malloc == "pinned" else None


def _traced(one: TrainingRun) -> object:
    return one.result and (one.result.steps.peak_bytes, one.result.steps.end_bytes)


_KINDS = (
    _Kind(
        file=record.RECORDS,
        decode=record.from_json,
        jobs=lambda own, size, device: (one.replace(device=device) for one in own.cells(size)),
        key=lambda one: one.id if isinstance(one, Workload) else one.workload_id,
        empty=lambda one: Record(workload_id=one.id, workload=one, outcome=Outcome.LOST),
        lost={**_NO_METRICS, "repeats": (), "wall_seconds": None},
        numbers=_exact,
    ),
    _Kind(
        file=threshold.THRESHOLDS,
        decode=threshold.from_json,
        jobs=lambda own, size, device: own.thresholds(size, device),
        key=_threshold_key,
        empty=_asked_question,
        lost=dict.fromkeys(("largest_fit", "smallest_fail", "headroom")),
        numbers=_found,
    ),
    _Kind(
        file=training_run.TRAINING_RUNS,
        decode=training_run.from_json,
        jobs=lambda own, size, device: (
            dataclasses.replace(one, workload=one.workload.replace(device=device))
            for one in own.training_runs(size)
        ),
        key=_run_key,
        empty=lambda one: TrainingRun(workload=one.workload, plan=one.plan, outcome=Outcome.LOST),
        lost={"result": None},
        numbers=_traced,
    ),
    _Kind(
        file=traced_run.STEP_RUNS,
        decode=traced_run.from_json,
        jobs=lambda own, size, _: own.step_jobs(size),
        key=_step_key,
        empty=lambda one: StepRun(job=one, outcome=Outcome.LOST, evidence={"message": NOT_RUN}),
        lost={"metrics": None, "counted": None},
        numbers=lambda one: (one.metrics, one.counted),
    ),
)


def section_of(experiment: Experiment, folder: Path) -> tuple[Section, Evidence]:
    """Check the results in ``folder``; return the experiment's report section and evidence.

    Raises:
        AnalysisError: results that the experiment's analysis needs are missing.
        RecordError: a line of a results file cannot be read.

    """
    evidence = gather(experiment, folder)
    try:
        section = experiment.analyse(evidence)
    except AnalysisError:
        if not evidence.doubts:
            raise
        section = experiment.analyse(gather(experiment, folder, believed=True))
    return _doubted(section, experiment, evidence.doubts), evidence


def _doubted(section: Section, experiment: Experiment, doubts: Sequence[str]) -> Section:
    """Return the section; if ``doubts`` lists contradictions, every claim in it becomes open."""
    if not doubts:
        return section
    why = "; ".join(doubts[:2])
    claims = tuple(_open(one, f"its evidence contradicts itself: {why}") for one in section.claims)
    answer = f"Open, because evidence contradicts itself: {experiment.title}: {why}."
    return dataclasses.replace(section, claims=claims, summary=(answer,))


def _open(claim: Claim, why: str) -> Claim:
    changes = {"verdict": Verdict.OPEN, "holds_for": "", "fails_for": "", "open_reason": why}
    return dataclasses.replace(claim, **changes)  # type: ignore[arg-type]


def gather(experiment: Experiment, folder: Path, *, believed: bool = False) -> Evidence:
    """Return each requested cell's last successful result, or a result without numbers.

    Args:
        experiment: experiment to analyse, in the smallest size that contains all measured cells.
        folder: folder with the experiment's results.
        believed: True to keep the numbers of contradictory results, for text and figures.

    """
    lines = {kind.file: lines_if_there(folder / kind.file, kind.decode) for kind in _KINDS}
    device = _device(lines)
    size = _size(experiment, device, lines)
    doubts: list[str] = []
    every: list[Any] = [one for own in lines.values() for one in own]
    found = {}
    for kind in _KINDS:
        asked = {kind.key(job): job for job in kind.jobs(experiment, size, device)}
        settled, own = _settled(kind, lines[kind.file], believed=believed)
        doubts += own
        missing = (kind.empty(job) for name, job in asked.items() if name not in settled)
        found[kind.file] = (*settled.values(), *missing)
    doubts += _mixed([one.environment for one in every])
    rows = [
        {"experiment": folder.resolve().name, **record_row(one)} for one in found[record.RECORDS]
    ]
    frame = typed_frame(rows, COLUMNS)
    return Evidence(
        frame=frame.assign(
            outcome=frame["outcome"].replace(Outcome.LOST.value, "missing"),
            fastest_seconds=pd.array(
                [_fastest(one) for one in found[record.RECORDS]], dtype="Float64"
            ),
        ),
        folder=folder,
        thresholds=found[threshold.THRESHOLDS],
        training_runs=found[training_run.TRAINING_RUNS],
        step_runs=found[traced_run.STEP_RUNS],
        size=size,
        doubts=tuple(doubts),
        origins=pd.DataFrame(
            [{f"environment.{key}": one.environment.get(key) for key in _ORIGIN} for one in every],
            columns=[f"environment.{key}" for key in _ORIGIN],
        ),
    )


def _fastest(line: Record) -> float | None:
    """Return the fastest repeat's time in seconds; other work on the machine can only add time."""
    return min((one.wall_seconds for one in line.repeats if one.wall_seconds), default=None)


def _device(lines: Mapping[str, Sequence[Any]]) -> str:
    workloads = (one.workload for own in lines.values() for one in own if hasattr(one, "workload"))
    return next((one.device for one in workloads), "cpu")


def _size(experiment: Experiment, device: str, lines: Mapping[str, Sequence[Any]]) -> Size:
    """Return the smallest size of the experiment that contains all measured cells."""
    asked = {
        size: {
            (kind.file, kind.key(job))
            for kind in _KINDS
            for job in kind.jobs(experiment, size, device)
        }
        for size in Size
    }
    known = {(kind.file, kind.key(one)) for kind in _KINDS for one in lines[kind.file]}
    known &= {cell for cells in asked.values() for cell in cells}
    return next((size for size in Size if known <= asked[size]), Size.FULL)


def _settled(
    kind: _Kind, lines: Iterable[Any], *, believed: bool
) -> tuple[dict[str, Any], list[str]]:
    """Return one result per cell, and descriptions of the contradictions."""
    attempts: dict[str, list[Any]] = {}
    for one in lines:
        attempts.setdefault(kind.key(one), []).append(one)
    settled, doubts = {}, []
    for name, own in attempts.items():
        well = [one for one in own if one.outcome is Outcome.OK]
        last = (well or own)[-1]
        why = _differ(kind, well) or contradiction(last)
        if why:
            doubts.append(f"{getattr(last, 'job', None) or last.workload}: {why}")
        settled[name] = distrusted(kind, last, why) if why and not believed else last
    count = len(doubts)
    if count > 1:
        doubts = [f"{count} of {len(settled)} {kind.file} lines, such as {doubts[0]}"]
    return settled, doubts


def _differ(kind: _Kind, well: Sequence[Any]) -> str:
    last = well[-1:]
    alike = all(kind.numbers(one) == kind.numbers(last[0]) for one in well)
    rises = [size for one in well if (size := getattr(one, "rss_rise_bytes", None)) is not None]
    if rises and max(rises) > max(_FAR * min(rises), min(rises) + _FAR_BYTES):
        alike = False
    return "" if alike else f"{len(well)} attempts have different numbers"


def distrusted(kind: _Kind, line: Any, why: str) -> Any:
    """Return ``line`` as a failed result without numbers, with the message ``why``."""
    evidence: FailureEvidence = {"message": why}
    return replace(line, outcome=Outcome.ERROR, evidence=evidence, **kind.lost)


def _mixed(environments: Iterable[Environment]) -> list[str]:
    """Return a message for each environment key that has several values in the results."""
    seen: dict[str, set[str]] = {name: set() for name in _ONE}
    for one in environments:
        facts: Mapping[str, Any] = one
        code = facts.get("code") or facts.get("git_commit")
        for name, value in {**facts, "code": code}.items():
            if name in seen and value:
                seen[name].add(str(value).partition("+")[0])
    return [
        f"its lines are of {len(values)} {_ONE[name]} ({', '.join(sorted(values)[:3])})"
        for name, values in seen.items()
        if len(values) > 1
    ]
