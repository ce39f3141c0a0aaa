"""Claims of the literature on the committed steps, and on steps changed so that verdicts flip."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import copytree

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
from harness.analysis.judgements import Steps
from harness.dry_run.toolchain import DryRunUnavailableError, compiler, torch_build
from harness.reporting.claims import LITERATURE_REFERENCE as RESULTS
from harness.reporting.claims import read_claims
from harness.reporting.report import write_report
from harness.schema.experiment import Size
from harness.schema.findings import Verdict
from harness.schema.metrics import PhaseMetrics
from harness.schema.traced_run import STEP_RUNS, StepRun, from_json
from harness.sweeps.experiment_files import find_own, literature_names
from harness.sweeps.sweep import Progress, run

CLAIMS = {
    claim.__name__.rpartition(".")[2]: claim
    for claim in (
        compiled_budgets, flash_linear, lora_third, recompute_third, sbh34, sixteen_bytes,
        sqrt_checkpoints,
    )
}  # fmt: skip

Change = Callable[[StepRun], StepRun]


def same(run: StepRun) -> StepRun:
    """Return the step as it was."""
    return run


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


def update_of(factor: float) -> Change:
    """Make the update need this many times what was held before."""

    def change(run: StepRun) -> StepRun:
        assert run.metrics is not None
        held = run.metrics.live_at_start_bytes or 0
        phases = dict(run.metrics.phases or {})
        phases["optimizer"] = PhaseMetrics(peak_live_bytes=round(factor * held))
        return metrics(run, phases=phases)

    return change


def twice_held(run: StepRun) -> StepRun:
    """Make every recipe hold twice as much."""
    assert run.metrics is not None
    return metrics(run, live_at_start_bytes=2 * (run.metrics.live_at_start_bytes or 0))


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


def all_linear(run: StepRun) -> StepRun:
    """Make every way of SDPA linear."""
    if run.job.arguments.get("kernel") != "sdpa":
        return run
    length = int(str(run.job.arguments["length"]))
    result = {**(run.counted or {}), "inputs": 0, "saved": length, "backward_peak": length}
    return msgspec.structs.replace(run, counted=result)


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
        ("sqrt_checkpoints", same, Verdict.LIMITED),
        ("sqrt_checkpoints", no_minimum_at_the_root, Verdict.REFUTED),
        ("sixteen_bytes", same, Verdict.LIMITED),
        ("sixteen_bytes", update_of(1.0), Verdict.SUPPORTED),
        ("sixteen_bytes", twice_held, Verdict.REFUTED),
        ("sbh34", same, Verdict.LIMITED),
        ("sbh34", kept_by_paper(1), Verdict.SUPPORTED),
        ("sbh34", kept_by_paper(2), Verdict.REFUTED),
        ("flash_linear", same, Verdict.LIMITED),
        ("flash_linear", all_linear, Verdict.SUPPORTED),
        ("flash_linear", flash_keeps_scores, Verdict.REFUTED),
        ("lora_third", same, Verdict.LIMITED),
        ("lora_third", adapters_of(0.1), Verdict.SUPPORTED),
        ("lora_third", adapters_of(10), Verdict.REFUTED),
        ("compiled_budgets", same, Verdict.LIMITED),
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
        ("recompute_third", same, Verdict.LIMITED),
        ("recompute_third", checkpoints_of(4), Verdict.SUPPORTED),
        ("recompute_third", checkpoints_of(6), Verdict.REFUTED),
    ],
)
def test_the_steps_decide_the_verdict(name: str, change: Change, expected: Verdict) -> None:
    runs = lines_if_there(RESULTS / name / STEP_RUNS, from_json)
    steps = Steps({run.job.cell_id: change(run) for run in runs})
    assert CLAIMS[name].judge(steps, Size.DEFAULT).verdict is expected


def test_the_committed_page_is_what_the_committed_steps_say(tmp_path: Path) -> None:
    for name in ("recompute_third", "sbh34"):  # two will do: each takes a second to draw
        copytree(RESULTS / name, tmp_path / name)
    write_report(tmp_path)
    told = {one.experiment: one for one in read_claims(RESULTS).claims}
    assert [told[one.experiment] for one in read_claims(tmp_path).claims] == read_claims(
        tmp_path
    ).claims


def test_every_claim_is_committed_with_a_verdict_that_nothing_left_open() -> None:
    told = read_claims(RESULTS).claims
    assert sorted(one.experiment for one in told) == literature_names()
    assert not [one.experiment for one in told if one.verdict is Verdict.OPEN]
    assert len(told) >= 14


def test_every_difference_of_the_committed_run_is_within_what_is_allowed() -> None:
    checks = pd.read_csv(RESULTS / "tables" / "checks.csv")
    apart = checks[checks["difference"].abs() > checks["allowed"]]
    assert apart.empty, apart
    assert checks["claim"].nunique() == len(literature_names())
    assert ((checks["value"] - checks["second"]) == checks["difference"]).all()


@pytest.mark.slow
def test_a_quick_run_of_one_claim_says_what_the_committed_run_says(tmp_path: Path) -> None:
    run(find_own("sixteen_bytes"), Size.QUICK, tmp_path, Quiet())
    write_report(tmp_path)
    (result,) = read_claims(tmp_path).claims
    told = {one.experiment: one for one in read_claims(RESULTS).claims}["sixteen_bytes"]
    if can_pretend():
        assert (result.verdict, result.number) == (told.verdict, told.number)
    else:
        assert result.verdict is Verdict.OPEN
        assert "7 steps are missing" in result.open_reason


def can_pretend() -> bool:
    """Return whether a GPU can be pretended on this machine."""
    try:
        torch_build(), compiler()
    except DryRunUnavailableError:
        return False
    return True


class Quiet(Progress):
    """Says nothing of a sweep."""

    def begin(self, experiment: str, *, cells: int, done: int, notes: Sequence[str]) -> None:
        """Ignore a beginning."""

    def cell(self, description: str, *, left: int, seconds_left: float | None) -> None:
        """Ignore a cell."""
