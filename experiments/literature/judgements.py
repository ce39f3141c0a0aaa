"""Judges claims of the literature from traced steps, by rules stated before the measurement.

If a measured number differs from its closed form, the report shows a failed check. A claim is open
if a step is missing, if two attempts at a step differ, or if a step's numbers contradict each
other.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypedDict, TypeVar

import pandas as pd

from harness.analysis import AnalysisError
from harness.analysis.claim_data import history_of
from harness.analysis.decisions import ROUGHLY
from harness.analysis.judge import judge_cells
from harness.analysis.step_runs import Steps
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import (
    Check,
    Claim,
    Judged,
    Judgement,
    Section,
    Source,
    Table,
    Verdict,
)
from harness.schema.metrics import Metrics
from harness.schema.record import Outcome
from harness.schema.traced_run import StepJob, StepRun

from .claim_texts import ClaimText, claim_texts

Jobs = Callable[[Size], Iterable[StepJob]]
Judge = Callable[[Steps, Size], Judgement]
Value = TypeVar("Value")


def counting(
    network: str, *, gpu: str = "a100", **arguments: bool | int | float | str | None
) -> StepJob:
    """Return the job that calls a counting function on a pretended GPU."""
    return StepJob(network=network, arguments=arguments, device="cuda", gpu=gpu, counts=True)


def at(sizes: Mapping[Size, Value], size: Size) -> Value:
    """Return the entry of ``size``; the full size uses the entry of the default size."""
    return sizes.get(size, sizes[Size.DEFAULT])


def over(above: float, below: float) -> float:
    """Return ``above / below``; raise AnalysisError if ``below`` is not positive."""
    if below <= 0:
        raise AnalysisError(f"a number that others are compared with is {below:,}")
    return above / below


def near(values: "pd.Series[float]", wanted: "float | pd.Series[float]") -> "pd.Series[bool]":
    """Return True for each number that is at most 10% away from ``wanted``.

    >>> near(pd.Series([0.45, 0.44, 0.55]), 0.5).tolist()
    [True, False, True]
    """
    return (values / wanted - 1).abs() <= ROUGHLY + 1e-12


def widest(
    name: str,
    pairs: Iterable[tuple[int, int]],
    second_from: str = "closed form",
    *,
    allowed: int = 0,
    gates: bool = False,
) -> Check:
    """Return a check of the pair with the largest difference between its two numbers.

    >>> widest("peak", [(8, 8), (9, 8)]).difference
    1
    """
    known = list(pairs)
    value, second = max(known, key=lambda pair: abs(pair[0] - pair[1]))
    named = f"{name} ({len(known)} steps; largest difference)" if len(known) > 1 else name
    return Check(
        name=named,
        value=int(value),
        second=int(second),
        second_from=second_from,
        allowed=allowed,
        gates=gates,
    )


def by_law(table: pd.DataFrame, names: Mapping[str, str], *, allowed: int = 0) -> tuple[Check, ...]:
    """Return checks that compare each column ``X_bytes`` with the column ``X_law_bytes``."""
    return tuple(
        widest(
            words,
            zip(table[f"{column}_bytes"], table[f"{column}_law_bytes"], strict=True),
            allowed=allowed,
        )
        for column, words in names.items()
    )


class Outcomes(TypedDict):
    """Fields of a ``Judgement`` that are computed from the cases of the claim."""

    verdict: Verdict
    holds_for: str
    fails_for: str
    cells: pd.DataFrame | None


def decided_by(cases: pd.DataFrame, axes: Sequence[str], *, steps: bool = False) -> Outcomes:
    """Return the verdict from the column ``holds``; its text describes the cases by ``axes``."""
    end = judge_cells(cases, cases["holds"], axes, steps=steps)
    return {
        "verdict": end.verdict,
        "holds_for": end.holds_for,
        "fails_for": end.fails_for,
        "cells": end.cells,
    }


def claim_experiment(claim: str | ClaimText, *, jobs: Jobs, judge: Judge) -> Experiment:
    """Return the experiment that tests a claim, given as a name in ``claims.toml`` or a ClaimText.

    ``judge`` receives the successful steps. If steps are missing and ``judge`` raises an error, the
    claim is open.
    """
    text = claim_texts()[claim] if isinstance(claim, str) else claim
    return Experiment(
        title=text.title,
        question=text.sentence,
        step_jobs=jobs,
        steps_from=".steps",
        source=text.source,
        analyse=partial(_analyse, claim if isinstance(claim, str) else "", text, jobs, judge),
        order=text.order,
    )


def _analyse(claim: str, text: ClaimText, jobs: Jobs, judge: Judge, evidence: Evidence) -> Section:
    runs = {run.cell_id: run for run in evidence.step_runs}
    size = evidence.size
    wanted = {job.cell_id: job for job in jobs(size)}
    well = {name: run for name, run in runs.items() if name in wanted and _ended_well(run)}
    missing = [job for name, job in wanted.items() if name not in well]
    reasons, judgement = _reasons(missing, runs), None
    try:
        found = judge(Steps(well), size)
        judgement = replace(found, closed_form=text.closed_form, limits=text.limits)
    except AnalysisError as error:
        reasons = reasons or str(error)
    except Exception:
        if not missing:
            raise
    if judgement and not judgement.checks:
        raise AnalysisError("no number of the judgement was derived a second way")
    seen = [run.environment for run in well.values()]
    where = sorted({f"torch {each.get('torch')}, {each.get('device')}" for each in seen})
    ended = f"{len(well)} of {len(wanted)} steps"
    return Section(
        claims=(_claim(claim, text.source, judgement, reasons, ended),),
        text=(f"{len(well)} steps completed ({'; '.join(where) or 'none'}).",),
        tables=(*(judgement.tables if judgement else ()), _steps_table(wanted.values(), runs)),
        figures=judgement.figures if judgement else (),
        judgement=judgement,
    )


def _claim(
    claim: str, source: Source, judgement: Judgement | None, reasons: str, ended: str
) -> Claim:
    measured, number = "Too few steps completed to judge the claim.", ended
    second, decided = "", Judged(verdict=Verdict.OPEN)
    if judgement is not None:
        apart = [one for one in judgement.checks if not one.holds]
        reasons = reasons or "; ".join(one.words for one in apart if one.gates)
        decided = decided if reasons else judgement
        kinds = [f"the {one}" for one in dict.fromkeys(c.second_from for c in judgement.checks)]
        second = ("depending on the number, " if len(kinds) > 1 else "") + "; or ".join(kinds)
        number, measured = judgement.number, judgement.measured
        if apart:
            measured += f" These checks failed: {'; '.join(one.words for one in apart)}."
            second += f"; {len(apart)} of {len(judgement.checks)} checks failed"
    return Claim(
        sentence=source.sentence,
        headline=source.headline,
        verdict=decided.verdict,
        holds_for=decided.holds_for,
        fails_for=decided.fails_for,
        rule=source.rule,
        second=second,
        number=number,
        measured=measured,
        open_reason=reasons,
        history=history_of(__file__, claim),
        cells=judgement.cells if judgement else None,
    )


def _ended_well(run: StepRun) -> bool:
    result = run.counted if run.job.counts else run.metrics
    return run.outcome is Outcome.OK and result is not None


def _reasons(missing: list[StepJob], runs: Mapping[str, StepRun]) -> str:
    """Return text with the distinct reasons why steps are missing."""
    if not missing:
        return ""
    why = dict.fromkeys(
        runs[job.cell_id].problem if job.cell_id in runs else "not run" for job in missing
    )
    first, *more = [" ".join(reason.split())[:120] for reason in why]
    rest = f", and {len(more)} more reasons" if more else ""
    return f"{len(missing)} steps are missing: {first}{rest}"


def listed(name: str, caption: str, table: pd.DataFrame, *left_out: str) -> Table:
    """Return ``table`` for the report, without the closed forms and without ``left_out``."""
    laws = [column for column in table if str(column).endswith("law_bytes")]
    return Table(name=name, caption=caption, frame=table.drop(columns=[*laws, *left_out]))


def _steps_table(wanted: Iterable[StepJob], runs: Mapping[str, StepRun]) -> Table:
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
