"""Claims of the literature on the committed steps, and on steps changed so that verdicts flip."""

import math
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import msgspec
import pandas as pd
import pytest

from experiments.literature import (
    compiled_budgets,
    flash_linear,
    lora_third,
    recompute_third,
    sbh34,
    sixteen_bytes,
    sqrt_checkpoints,
)
from harness.analysis.frame import lines_if_there
from harness.analysis.step_runs import Steps
from harness.dry_run.toolchain import DryRunUnavailableError, compiler, torch_build
from harness.reporting.claims import LITERATURE_REFERENCE as RESULTS
from harness.reporting.claims import read_claims
from harness.reporting.progress import Lines
from harness.reporting.report import write_report
from harness.schema.experiment import Evidence, Size
from harness.schema.findings import Verdict
from harness.schema.record import to_json
from harness.schema.traced_run import STEP_RUNS, StepRun, from_json
from harness.sweeps.experiment_files import find_own, literature_names
from harness.sweeps.sweep import run
from tests.known import known

CLAIMS = {
    claim.__name__.rpartition(".")[2]: claim
    for claim in (
        compiled_budgets, flash_linear, lora_third, recompute_third, sbh34, sixteen_bytes,
        sqrt_checkpoints,
    )
}  # fmt: skip

Change = Callable[[StepRun], StepRun]


def counts(run: StepRun, **times: float) -> StepRun:
    """Return the count with some of its numbers multiplied."""
    result = dict(run.counted or {})
    result |= {name: round(result[name] * by) for name, by in times.items()}
    return msgspec.structs.replace(run, counted=result)


def metrics(run: StepRun, **fields: object) -> StepRun:
    """Return the step with other metrics."""
    assert run.metrics is not None
    return msgspec.structs.replace(run, metrics=msgspec.structs.replace(run.metrics, **fields))


def no_minimum_at_the_root(run: StepRun) -> StepRun:
    """Make segments of the square root's length the worst."""
    segment, depth = run.job.arguments.get("segment"), run.job.arguments.get("depth")
    if run.metrics is None or segment != math.isqrt(int(str(depth or 0))):
        return run
    return metrics(run, peak_live_bytes=10 * (run.metrics.peak_live_bytes or 0))


def twice_held(run: StepRun) -> StepRun:
    """Make every recipe hold twice as much."""
    return metrics(run, live_at_start_bytes=2 * (known(run.metrics).live_at_start_bytes or 0))


def kept_by_paper(factor: int) -> Change:
    """Make a layer keep a multiple of what the paper says."""

    def change(run: StepRun) -> StepRun:
        sizes = run.job.arguments
        length = int(run.job.inputs[0].partition(":")[2].partition("x")[0])
        shape = (length, int(str(sizes["hidden"])), int(str(sizes["heads"])))
        kept = factor * sbh34.paper(shape) * int(str(sizes["layers"]))
        return metrics(run, saved_bytes=kept)

    return change


def flash_keeps_scores(run: StepRun) -> StepRun:
    """Make SDPA's memory grow with the square too."""
    if run.job.arguments.get("kernel") != "sdpa":
        return run
    length = int(str(run.job.arguments["length"]))
    return counts(run, saved=length, backward_peak=length)


def adapters_of(factor: float) -> Change:
    """Multiply the peaks of the steps with adapters."""

    def change(run: StepRun) -> StepRun:
        if "where" not in run.job.arguments or run.metrics is None:
            return run
        return metrics(run, peak_live_bytes=round(factor * (run.metrics.peak_live_bytes or 0)))

    return change


def checkpoints_of(factor: float) -> Change:
    """Make every step with checkpoints need a multiple of the operations of three passes."""

    def change(run: StepRun) -> StepRun:
        forward = (run.counted or {})["forward"]
        times = factor if run.job.arguments["segment"] else 3.0
        backward = round((times - 1) * forward)
        return msgspec.structs.replace(run, counted={"forward": forward, "backward": backward})

    return change


def peaks_of(share: Callable[[str | None, float | None], float]) -> Change:
    """Make the peak what ``share`` makes of the way to compile and of the budget."""

    def change(run: StepRun) -> StepRun:
        budget = run.job.arguments.get("budget")
        given = None if budget is None else float(str(budget))
        return metrics(run, peak_live_bytes=round(1000 * share(run.job.compile, given)))

    return change


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("sqrt_checkpoints", no_minimum_at_the_root, Verdict.REFUTED),
        ("sixteen_bytes", twice_held, Verdict.REFUTED),
        ("sbh34", kept_by_paper(1), Verdict.SUPPORTED),
        ("sbh34", kept_by_paper(2), Verdict.REFUTED),
        ("flash_linear", flash_keeps_scores, Verdict.REFUTED),
        ("lora_third", adapters_of(0.1), Verdict.SUPPORTED),
        ("lora_third", adapters_of(10), Verdict.REFUTED),
        (
            "compiled_budgets",
            peaks_of(lambda way, budget: 0.5 + (budget or 0) / 2 if way else 1),
            Verdict.SUPPORTED,
        ),
        (
            "compiled_budgets",
            peaks_of(lambda way, budget: 2 - (budget or 0) if way else 1),
            Verdict.REFUTED,
        ),
        ("recompute_third", checkpoints_of(4), Verdict.SUPPORTED),
        ("recompute_third", checkpoints_of(6), Verdict.REFUTED),
    ],
)
def test_the_steps_decide_the_verdict(name: str, change: Change, expected: Verdict) -> None:
    runs = lines_if_there(RESULTS / name / STEP_RUNS, from_json)
    steps = Steps({run.job.cell_id: change(run) for run in runs})
    assert CLAIMS[name].judge(steps, Size.DEFAULT).verdict is expected


def bent(value: Any, more: int) -> Any:
    """Return a metric, or the metrics in a table, with that much more."""
    if isinstance(value, dict):
        return {key: bent(one, more) for key, one in value.items()}
    return value + more if isinstance(value, int) else value


@pytest.mark.parametrize("name", literature_names())
def test_the_committed_steps_alone_give_the_committed_verdict(name: str, tmp_path: Path) -> None:
    """With a step missing, or with steps that follow no law, a claim is open."""
    runs = lines_if_there(RESULTS / name / STEP_RUNS, from_json)
    (told,) = [one.verdict for one in read_claims(RESULTS).claims if one.experiment == name]
    lawless = [
        line | {part: bent(line[part], 1_000_003 * at) for part in ("metrics", "counted")}
        for at, line in enumerate(map(msgspec.to_builtins, runs))
    ]
    for steps, verdict in (
        (runs, told),
        (runs[1:], Verdict.OPEN),
        (msgspec.convert(lawless, list[StepRun]), Verdict.OPEN),
    ):
        (tmp_path / STEP_RUNS).write_bytes(b"".join(to_json(step) + b"\n" for step in steps))
        section = find_own(name).analyse(Evidence(frame=pd.DataFrame(), folder=tmp_path))
        assert section.claims[0].verdict is verdict


def test_the_committed_page_is_what_the_committed_steps_say(tmp_path: Path) -> None:
    for name in ("recompute_third", "sbh34"):  # two will do: each takes a second to draw
        copytree(RESULTS / name, tmp_path / name)
    write_report(tmp_path)
    told = {one.experiment: one for one in read_claims(RESULTS).claims}
    here = read_claims(tmp_path).claims
    assert [told[one.experiment] for one in here] == here
    assert sorted(told) == literature_names()
    assert not [name for name, one in told.items() if one.verdict is Verdict.OPEN]


@pytest.mark.slow
def test_a_quick_run_of_one_claim_says_what_the_committed_run_says(tmp_path: Path) -> None:
    run(find_own("sixteen_bytes"), Size.QUICK, tmp_path, Lines())
    write_report(tmp_path)
    (result,) = read_claims(tmp_path).claims
    told = {one.experiment: one for one in read_claims(RESULTS).claims}["sixteen_bytes"]
    try:
        torch_build(), compiler()
    except DryRunUnavailableError:
        assert result.verdict is Verdict.OPEN
        assert "7 steps are missing" in result.open_reason
    else:
        assert (result.verdict, result.number) == (told.verdict, told.number)
