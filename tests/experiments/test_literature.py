"""Claims of the literature on the committed steps, and on steps planted so that verdicts turn."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from msgspec.structs import replace

from harness.analysis.frame import lines_if_there
from harness.dry_runs.toolchain import DryRunUnavailableError, compiler, torch_build
from harness.reporting.claims import LITERATURE_REFERENCE as RESULTS
from harness.reporting.claims import read_claims
from harness.reporting.progress import Lines
from harness.reporting.report import write_report
from harness.schema.experiment import Size
from harness.schema.findings import Claim, Verdict
from harness.schema.traced_run import STEP_RUNS, StepRun, from_json
from harness.sweeps.experiment_files import find_own, literature_names
from harness.sweeps.sweep import run
from tests.experiments import planted_steps as plant
from tests.experiments.planted_steps import Change, a_layer, argument, peaks, scaled
from tests.experiments.predicted_records import section

HOLDS, FAILS = Verdict.SUPPORTED, Verdict.REFUTED


def at(length: int) -> Callable[[int, int], float]:
    """Return the cost of segments that is least at one length."""
    return lambda k, _: 1 + max(k / length, length / k)


def compiled(least: float, most: float) -> Change:
    """Plant the peak of compiled steps as a share: the least with budget 0, the most with 1."""

    def share(run: StepRun) -> float:
        return least + float(argument(run, "budget", 1)) * (most - least) if run.job.compile else 1

    return peaks(share)


PLANTS: dict[str, tuple[Callable[..., Change], list[Any], list[Any]]] = {
    "sqrt_checkpoints": (plant.lengths, [2 * (plant.root,)], [2 * (at(1),), 2 * (at(99),)]),
    "sixteen_bytes": (plant.held, [16], [24, 8]),
    "sbh34": (plant.by_formula, [1, 1.09], [1.2, 0.8]),
    "flash_linear": (plant.attention, [(2, 1)], [(2, 2), (1, 1), (2, 0)]),
    "lora_third": (  # the peak with adapters as a share of the one that trains all
        lambda share: peaks(lambda run: run.job.batch * (share if argument(run, "where") else 1)),
        [0.2, 0.36], [0.38, 2],
    ),
    "compiled_budgets": (compiled, [(0.5, 0.7), (0.8, 0.89)], [(0.95, 0.9), (2, 1)]),
    "accumulated_gradients": (  # the rise of the peak with each further micro-batch
        lambda rise: peaks(lambda run: 1 + rise * (run.job.accumulate - 1)), [0], [1, 1e-11, -0.01],
    ),
    "step_in_backward": (
        lambda left: peaks(lambda run: left if "in_backward" in run.job.optimizer else 1),
        [0.5, 0.89], [0.95, 2],
    ),
    "reversible_blocks": (  # bytes that a further reversible block keeps
        lambda kept: a_layer(lambda run: kept if argument(run, "rebuild") else 100), [0], [1, -1],
    ),
    "mixed_precision": (
        lambda left: peaks(lambda run: left if run.job.autocast else 1), [0.5, 0.55], [0.56, 0.4],
    ),
    "smaller_states": (plant.states, [1, 0.91], [0.8, -1]),
}  # fmt: skip
"""A change to plant in a claim's steps, with values by which it must hold, and must fail."""

PARTS = [
    ("sqrt_checkpoints", (at(1), at(4)), "fails; holds only for transformer"),
    ("sqrt_checkpoints", (at(1), at(8)), "fails; holds only for transformer"),
    ("sqrt_checkpoints", (plant.root, at(1)),
     "holds for layers 16 and layers 36, fails for transformer"),
    ("compiled_budgets", (0.95, 0.98),
     "fails; holds only for budgets"),
]  # fmt: skip


def cases() -> Iterator[tuple[str, Change, Verdict | str]]:
    ends: list[tuple[str, Any, Verdict | str]] = [*PARTS]
    for name, (_, holds, fails) in PLANTS.items():
        ends += [*((name, given, HOLDS) for given in holds), *((name, one, FAILS) for one in fails)]
    for name, given, expected in ends:
        yield name, PLANTS[name][0](*(given if isinstance(given, tuple) else (given,))), expected


def committed(name: str) -> list[StepRun]:
    return lines_if_there(RESULTS / name / STEP_RUNS, from_json)


def judged(name: str, runs: Iterable[StepRun], folder: Path) -> Claim:
    (claim,) = section(name, folder, runs).claims
    return claim


@pytest.mark.parametrize(("name", "change", "expected"), [*cases()])
def test_planted_steps_turn_the_verdict(
    name: str, change: Change, expected: Verdict | str, tmp_path: Path
) -> None:
    claim = judged(name, map(change, committed(name)), tmp_path)
    told = claim.verdict if isinstance(expected, Verdict) else claim.words
    assert (told, claim.open_reason) == (expected, "")


@pytest.mark.parametrize("name", literature_names())
def test_committed_steps_give_the_committed_verdict_and_doubtful_ones_leave_it_open(
    name: str, tmp_path: Path
) -> None:
    runs = committed(name)
    told = judged(name, runs, tmp_path)
    (page,) = [one for one in read_claims(RESULTS).claims if one.experiment == name]
    assert told.words == page.words
    assert told.verdict is not Verdict.OPEN
    assert judged(name, [*runs, *runs], tmp_path) == told  # attempts that agree
    doubtful = {
        "missing: not run": runs[1:],
        "2 attempts have different numbers": [*runs, scaled(runs[0], 7)],
        " 0": [scaled(step, 0) for step in runs],
    }
    if any(step.metrics for step in runs):
        first = next(step for step in runs if step.metrics)
        doubtful |= {
            "the batch is ": [scaled(step, 7 if step is first else 1) for step in runs],
            "the peak is 100,000,000 bytes, ": [
                replace(one, metrics=one.metrics and replace(one.metrics, peak_live_bytes=10**8))
                for one in runs
            ],  # none of its parts has that peak
        }
    for reason, steps in doubtful.items():
        claim = judged(name, steps, tmp_path)
        assert (claim.verdict, reason in claim.open_reason) == (Verdict.OPEN, True), reason
        assert "nan" not in claim.number + claim.measured


@pytest.mark.parametrize("name", ["compiled_budgets", "flash_linear"])
def test_no_step_that_decides_can_be_seven_times_as_large_by_itself(
    name: str, tmp_path: Path
) -> None:
    runs = committed(name)
    for step in runs:
        others = [one for one in runs if one is not step]
        assert judged(name, [*others, scaled(step, 7)], tmp_path).verdict is Verdict.OPEN


def test_a_law_that_fails_is_said_and_versions_that_are_mixed_decide_nothing(
    tmp_path: Path,
) -> None:
    runs = [plant.by_formula(1.05)(step) for step in committed("sbh34")]
    claim = judged("sbh34", runs, tmp_path)
    assert (claim.verdict, claim.number[:5]) == (HOLDS, "1.050")
    assert "These checks failed: kept by a further layer in bytes (28 steps" in claim.measured
    assert claim.second == "the closed form; 1 of 1 checks failed"
    mixed = replace(runs[0], environment={**runs[0].environment, "torch": "9.9"})
    both = judged("sbh34", [mixed, *runs[1:]], tmp_path)
    assert both.verdict is Verdict.OPEN
    assert "2 versions of PyTorch (2.15.0, 9.9)" in both.open_reason


def test_the_committed_page_is_what_the_committed_steps_say(tmp_path: Path) -> None:
    for name in ("lora_third", "sbh34"):  # two will do: each takes a second to draw
        copytree(RESULTS / name, tmp_path / name)
    page = write_report(tmp_path).read_text()
    assert page.index('id="claims"') < page.index("<blockquote>"), "the verdicts first"
    told = {one.experiment: one for one in read_claims(RESULTS).claims}
    here = read_claims(tmp_path).claims
    assert [told[one.experiment] for one in here] == here
    assert sorted(told) == literature_names()


@pytest.mark.slow
def test_a_quick_run_of_one_claim_says_what_the_committed_run_says(tmp_path: Path) -> None:
    run(find_own("sixteen_bytes"), Size.QUICK, tmp_path, Lines())
    write_report(tmp_path)
    (result,) = read_claims(tmp_path).claims
    told = {one.experiment: one for one in read_claims(RESULTS).claims}["sixteen_bytes"]
    kept = lines_if_there(tmp_path / "sixteen_bytes" / STEP_RUNS, from_json)
    own = {"git_commit", "python", "kernel", "cpu", "seed", "threads", "torch", "device", "malloc"}
    assert all(own <= set(step.environment) for step in kept)
    try:
        torch_build(), compiler()
    except DryRunUnavailableError:
        assert result.verdict is Verdict.OPEN
        assert "7 steps are missing" in result.open_reason
    else:
        assert (result.words, result.number) == (told.words, told.number)
