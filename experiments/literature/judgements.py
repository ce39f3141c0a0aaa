"""Judges a claim of the literature on traced steps; a claim with steps missing stays open."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from harness.analysis import AnalysisError
from harness.analysis.step_runs import Steps, last_runs
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Check, Claim, Judgement, Section, Source, Table, Verdict
from harness.schema.metrics import Metrics
from harness.schema.record import Outcome
from harness.schema.traced_run import StepJob, StepRun

Jobs = Callable[[Size], Iterable[StepJob]]


def widest(
    name: str, pairs: Iterable[tuple[int, int]], second_from: str, *, allowed: int = 0
) -> Check:
    """Return the check of the pair, of a number and its second derivation, that differs most.

    >>> widest("peak", [(8, 8), (9, 8)], "closed form").difference
    1
    """
    known = list(pairs)
    value, second = max(known, key=lambda pair: abs(pair[0] - pair[1]))
    named = f"{name} ({len(known)} steps, the widest difference)" if len(known) > 1 else name
    return Check(name=named, value=value, second=second, second_from=second_from, allowed=allowed)


def claim_experiment(
    source: Source, *, title: str, jobs: Jobs, judge: Callable[[Steps, Size], Judgement], order: int
) -> Experiment:
    """Return the experiment that tests a claim of the literature.

    ``judge`` gets the steps that ended well. With some missing it may fail: the claim is open.
    """
    return Experiment(
        title=title,
        question=source.sentence,
        step_jobs=jobs,
        steps_from=".steps",
        source=source,
        analyse=partial(_analyse, source, jobs, judge),
        order=order,
    )


def _analyse(
    source: Source, jobs: Jobs, judge: Callable[[Steps, Size], Judgement], evidence: Evidence
) -> Section:
    runs = {run.cell_id: run for run in last_runs(evidence.folder)}
    size = run_size(jobs, runs)
    wanted = {job.cell_id: job for job in jobs(size)}
    well = {name: run for name, run in runs.items() if name in wanted and _ended_well(run)}
    missing = [job for name, job in wanted.items() if name not in well]
    judgement: Judgement | None = None
    try:
        judgement = judge(Steps(well), size)
    except Exception:
        if not missing:
            raise
    reasons = _reasons(missing, runs)
    holds_for = fails_for = ""
    verdict, number = Verdict.OPEN, f"{len(well)} of {len(wanted)} steps"
    measured = "Too few steps ended well to say more."
    if judgement is not None:
        if not judgement.checks:
            raise AnalysisError("no number of the judgement was derived a second way")
        reasons = reasons or "; ".join(
            f"{one.name} differs from the {one.second_from} by {one.difference:,}"
            for one in judgement.checks
            if not one.holds
        )
        if not reasons:
            verdict = judgement.verdict
            holds_for, fails_for = judgement.holds_for, judgement.fails_for
        number, measured = judgement.number, judgement.measured
    claim = Claim(
        sentence=source.sentence,
        headline=source.headline,
        verdict=verdict,
        holds_for=holds_for,
        fails_for=fails_for,
        rule=source.rule,
        second="; ".join(dict.fromkeys(one.second_from for one in judgement.checks))
        if judgement
        else "",
        number=number,
        measured=measured,
        open_reason=reasons,
    )
    environments = [run.environment for run in well.values()]
    where = sorted({f"torch {each.get('torch')}, {each.get('device')}" for each in environments})
    return Section(
        claims=(claim,),
        text=(f"{len(well)} steps ({'; '.join(where) or 'none'}).",),
        tables=(*(judgement.tables if judgement else ()), _steps_table(wanted.values(), runs)),
        figures=judgement.figures if judgement else (),
        judgement=judgement,
    )


def run_size(jobs: Jobs, runs: Mapping[str, StepRun]) -> Size:
    """Return the smallest size that has every step that was run."""
    for size in (Size.QUICK, Size.DEFAULT):
        if set(runs) <= {job.cell_id for job in jobs(size)}:
            return size
    return Size.FULL


def _ended_well(run: StepRun) -> bool:
    result = run.counted if run.job.counts else run.metrics
    return run.outcome is Outcome.OK and result is not None


def _reasons(missing: list[StepJob], runs: Mapping[str, StepRun]) -> str:
    """Return why steps are missing, each reason once."""
    if not missing:
        return ""
    why = dict.fromkeys(
        runs[job.cell_id].problem if job.cell_id in runs else "not run" for job in missing
    )
    first, *more = [" ".join(reason.split())[:120] for reason in why]
    rest = f", and {len(more)} more reasons" if more else ""
    return f"{len(missing)} steps are missing: {first}{rest}"


def _steps_table(wanted: Iterable[StepJob], runs: Mapping[str, StepRun]) -> Table:
    import pandas as pd

    rows = []
    for job in wanted:
        run = runs.get(job.cell_id)
        metrics = (run.metrics if run else None) or Metrics()
        counted = (run.counted if run else None) or {}
        rows.append(
            {
                "step": str(job),
                "optimizer": job.optimizer.rpartition(":")[2],
                "outcome": str(run.outcome) if run else "not run",
                "saved_bytes": metrics.saved_bytes,
                "peak_live_bytes": metrics.peak_live_bytes,
                "allocated_bytes": metrics.cuda.allocated_peak_bytes if metrics.cuda else None,
                "counted": ", ".join(f"{name} {value:,}" for name, value in counted.items()),
                "reason": run.problem if run else "",
            }
        )
    sizes = ["saved_bytes", "peak_live_bytes", "allocated_bytes"]
    frame = pd.DataFrame(rows).astype(dict.fromkeys(sizes, "Int64"))
    known = frame.replace("", None).notna().any()
    empty = [name for name in ("counted", "reason", *sizes) if not known[name]]
    return Table(name="steps", caption="Every step", frame=frame.drop(columns=empty))
