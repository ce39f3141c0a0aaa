"""Claims of the literature, on planted steps: what decides a verdict, and what flips it."""

from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from experiments.literature import (
    accumulated_gradients,
    frozen_layers,
    mixed_precision,
    norm_in_place,
    pinned_memory,
    reversible_blocks,
    smaller_states,
    step_in_backward,
)
from harness.analysis.judgements import Steps
from harness.schema.experiment import Evidence, Size
from harness.schema.findings import Verdict
from harness.schema.metrics import CategoryBytes, Metrics, PhaseMetrics
from harness.schema.record import Outcome, to_json
from harness.schema.traced_run import STEP_RUNS, StepJob, StepRun

QUICK = Size.QUICK


def traced(
    job: StepJob, *, saved: int = 0, peak: int = 0, backward: int = 0, state: int = 0
) -> StepRun:
    """Return a step that ended well, with these metrics."""
    metrics = Metrics(
        saved_bytes=saved,
        peak_live_bytes=peak,
        peak_phase="backward",
        phases={"backward": PhaseMetrics(peak_live_bytes=backward or peak)},
        categories_at_peak=CategoryBytes(optimizer_state=state, activation=peak - state),
    )
    return StepRun(job=job, outcome=Outcome.OK, metrics=metrics)


def counted(job: StepJob, **numbers: int) -> StepRun:
    """Return a call that counted these."""
    return StepRun(job=job, outcome=Outcome.OK, counted=numbers)


def frozen(forgets: Callable[[str, str], bool]) -> list[StepRun]:
    """Return stacks whose frozen layers keep nothing where ``forgets`` says so."""

    def run(job: StepJob) -> StepRun:
        kind, trained, depth = (job.arguments[name] for name in ("kind", "trained", "depth"))
        kept = frozen_layers.kept_bytes(str(kind), str(trained), job.device)
        if trained == "others" and forgets(str(kind), job.device):
            kept = 0
        return traced(job, saved=1_000 + kept * int(str(depth)))

    return [run(job) for job in frozen_layers.jobs(QUICK)]


def accumulated(free: bool) -> list[StepRun]:
    """Return steps by law, or with the peak of one micro-batch in all."""
    runs = []
    for job in accumulated_gradients.jobs(QUICK):
        own = accumulated_gradients._step(job.batch // job.accumulate)
        base = own.parameter_bytes + own.input_bytes
        alone = base + own.backward_peak("dropped", job.device)
        backward = alone if job.accumulate == 1 else base + own.backward_peak("kept", job.device)
        peak = alone if free else backward
        runs.append(traced(job, peak=peak, backward=backward))
    return runs


def stepping(fused: Callable[[int, int], int]) -> list[StepRun]:
    """Return steps whose peak with the step in the backward pass ``fused`` makes of the others."""
    runs = []
    for device, pair, own in step_in_backward._grid(QUICK):
        after, inside = (
            step_in_backward.peak_by_law(own, False, within, device) for within in (False, True)
        )
        runs.append(traced(own.job(pair[0], device), peak=after))
        runs.append(traced(own.job(pair[1], device), peak=fused(after, inside)))
    return runs


def states(reached: float | None = None) -> list[StepRun]:
    """Return steps by law, or of which this part of what a state saves reaches the peak."""
    runs = []
    for device, own in smaller_states._grid(QUICK):
        adam = smaller_states.state_bytes(own, smaller_states.ADAM, device)
        whole = smaller_states.peak_by_law(own, smaller_states.ADAM, device)
        runs.append(traced(own.job(smaller_states.ADAM, device), peak=whole, state=adam))
        for optimizer in smaller_states.SMALLER:
            state = smaller_states.state_bytes(own, optimizer, device)
            peak = smaller_states.peak_by_law(own, optimizer, device)
            if reached is not None:
                peak = whole - round(reached * (adam - state))
            runs.append(traced(own.job(optimizer, device), peak=peak, state=state))
    return runs


def reversible(kept: int) -> list[StepRun]:
    """Return stacks whose reversible blocks keep this much each."""

    def run(job: StepJob) -> StepRun:
        depth, stages = (int(str(job.arguments[name])) for name in ("depth", "stages"))
        half = 4 * job.batch * reversible_blocks.WIDTH
        own = kept if job.arguments["rebuild"] else 4 * half
        block = reversible_blocks.block_bytes()
        saved = 1_000 + own * depth + (stages - 1) * 4 * half
        return traced(job, saved=saved, peak=9_000 + depth * (block + max(own, block)))

    return [run(job) for job in reversible_blocks.jobs(QUICK)]


def in_place(tensors: int, constant: int) -> list[StepRun]:
    """Return stacks whose layers keep that many tensors in place, and peaks above a constant."""
    tensor = norm_in_place.layer_bytes("in place")

    def run(job: StepJob) -> StepRun:
        norm, depth = str(job.arguments["norm"]), int(str(job.arguments["depth"]))
        more = (tensors - 1) * tensor if norm == "in place" else 0
        kept = norm_in_place.layer_bytes(norm) + more
        peak = norm_in_place.peak_bytes(norm) + more
        return traced(job, saved=depth * kept, peak=constant + depth * peak)

    return [run(job) for job in norm_in_place.jobs(QUICK)]


def cast(halves: Iterable[bool]) -> list[StepRun]:
    """Return steps by law, but half of float32's peak under autocast where ``halves`` says so."""
    runs = []
    places = zip(mixed_precision._grid(QUICK), halves, strict=True)
    for (device, tokens), half in places:
        for depth in mixed_precision.DEPTHS:
            for autocast in (False, True):
                kept = mixed_precision.kept_bytes(tokens, autocast, device)
                peak = mixed_precision.peak_bytes(kept)
                plain = mixed_precision.peak_bytes(
                    mixed_precision.kept_bytes(tokens, False, device)
                )
                peak = plain // 2 if autocast and half else peak
                job = mixed_precision.job(depth, tokens, autocast, device)
                runs.append(traced(job, saved=depth * kept, peak=depth * peak))
    return runs


def pinned(exact: bool) -> list[StepRun]:
    """Return tensors that take their own bytes and give them back, or blocks that stay."""
    runs = []
    for job in pinned_memory.jobs(QUICK):
        if "second" in job.arguments:
            first, second = (int(str(job.arguments[name])) for name in ("first", "second"))
            taken = pinned_memory.reuse_by_law(first, second)
            runs.append(counted(job, taken_bytes=taken))
            continue
        request = int(str(job.arguments["asked"]))
        block = request if exact else pinned_memory.block_by_law(request)
        runs.append(counted(job, taken_bytes=block, freed_bytes=0 if exact else block))
    return runs


ALL = (True,) * 4
CASES = [
    (frozen_layers, frozen(lambda *_: False), Verdict.LIMITED),
    (frozen_layers, frozen(lambda *_: True), Verdict.SUPPORTED),
    (accumulated_gradients, accumulated(free=False), Verdict.REFUTED),
    (accumulated_gradients, accumulated(free=True), Verdict.SUPPORTED),
    (step_in_backward, stepping(lambda after, inside: inside), Verdict.LIMITED),
    (step_in_backward, stepping(lambda after, inside: after // 9), Verdict.SUPPORTED),
    (step_in_backward, stepping(lambda after, inside: after), Verdict.REFUTED),
    (smaller_states, states(), Verdict.LIMITED),
    (smaller_states, states(1), Verdict.SUPPORTED),
    (smaller_states, states(0.5), Verdict.REFUTED),
    (reversible_blocks, reversible(0), Verdict.SUPPORTED),
    (reversible_blocks, reversible(64), Verdict.REFUTED),
    (norm_in_place, in_place(1, 10**6), Verdict.LIMITED),
    (norm_in_place, in_place(1, 0), Verdict.SUPPORTED),
    (norm_in_place, in_place(2, 0), Verdict.REFUTED),
    (mixed_precision, cast((False,) * 4), Verdict.REFUTED),
    (mixed_precision, cast((True, False, False, False)), Verdict.LIMITED),
    (mixed_precision, cast(ALL), Verdict.SUPPORTED),
    (pinned_memory, pinned(False), Verdict.REFUTED),
    (pinned_memory, pinned(True), Verdict.SUPPORTED),
]
LAWFUL = [case for place, case in enumerate(CASES) if not place or CASES[place - 1][0] != case[0]]


def name_of(value: object) -> str:
    """Return the claim's name, for the test's."""
    return value.__name__.rpartition(".")[2] if isinstance(value, ModuleType) else ""


@pytest.mark.parametrize(("claim", "runs", "verdict"), CASES, ids=name_of)
def test_a_verdict_follows_from_the_steps(
    claim: ModuleType, runs: list[StepRun], verdict: Verdict
) -> None:
    judgement = claim.judge(Steps({run.job.cell_id: run for run in runs}), QUICK)

    assert judgement.verdict is verdict


def section_verdict(claim: ModuleType, runs: Iterable[StepRun], folder: Path) -> Verdict:
    """Return the verdict of the section that is made of these lines."""
    (folder / STEP_RUNS).write_bytes(b"".join(to_json(run) + b"\n" for run in runs))
    section = claim.EXPERIMENT.analyse(Evidence(frame=pd.DataFrame(), folder=folder))
    verdict: Verdict = section.claims[0].verdict
    return verdict


@pytest.mark.parametrize(("claim", "runs", "verdict"), LAWFUL, ids=name_of)
def test_a_claim_with_a_step_missing_or_beside_the_law_is_open(
    claim: ModuleType, runs: list[StepRun], verdict: Verdict, tmp_path: Path
) -> None:
    first, *rest = runs
    wrong = traced(first.job, saved=7, peak=7)
    if first.counted:
        wrong = counted(first.job, **dict.fromkeys(first.counted, 7))

    assert section_verdict(claim, runs, tmp_path) is verdict
    assert section_verdict(claim, rest, tmp_path) is Verdict.OPEN
    assert section_verdict(claim, [wrong, *rest], tmp_path) is Verdict.OPEN
