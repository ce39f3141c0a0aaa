"""Planted truth: for each claim data on which it holds, fails in each direction, and stays open.

A case is a set of planted records, and a letter for each claim of the experiment in its order:
``+`` holds, ``/`` holds in part, ``-`` fails, ``?`` is open, ``.`` is not asked.
"""

import functools
import math
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from msgspec.structs import replace as put

from harness.analysis.contradictions import batch_bytes
from harness.prediction.mlp.formula import parameter_bytes
from harness.schema.experiment import Size
from harness.schema.findings import Verdict
from harness.schema.metrics import CudaMetrics
from harness.schema.record import Outcome, Record
from harness.schema.threshold import Threshold, ThresholdQuestion
from harness.schema.traced_run import StepRun
from harness.schema.training_run import Instrument, ZeroGrad
from harness.schema.workload import Workload
from harness.sweeps.experiment_files import find, names_found
from tests.analysis import planted
from tests.analysis.planted import consistent
from tests.experiments.predicted_records import record, section
from tests.experiments.test_training_run import planted as trained
from tests.known import known

LETTERS = {"holds": "+", "holds in part": "/", "fails": "-", "open": "?"}
Lines = Callable[[], Iterable[Any]]
CASES: dict[str, list[tuple[str, str, Lines]]] = {}
"""The cases of each experiment: a name, its letters, and its planted lines."""


@functools.cache
def base(name: str, size: Size = Size.QUICK) -> tuple[Record, ...]:
    """Return the records of an experiment's cells as they are predicted."""
    cells = find(name).cells(size)
    return tuple(
        record(cell if cell.autocast is None else cell.replace(autocast=None)) for cell in cells
    )


def without(lines: Lines, lost: Callable[[Any], bool]) -> Lines:
    """Return the same lines; those of cells that are lost ran out of memory."""

    def left(one: Any) -> Any:
        cell = one.workload if isinstance(one, Record) else one.job.arguments
        return put(one, outcome=Outcome.OOM) if lost(cell) else one

    return lambda: map(left, lines())


# Growth: every metric is one law of depth and batch.
def growth(law: Callable[[int, int], float], rss: float = 1.5, noise: float = 0.0) -> Lines:
    """The peak is twice the law, so that it holds what is saved; RSS rises by ``rss`` times it."""
    dice = random.Random(5)

    def grown(one: Record) -> Record:
        size = law(one.workload.depth, one.workload.batch)
        rises = [rss * size * math.exp(noise * dice.gauss(0, 1)) for _ in range(3)]
        own = consistent(one, saved=size, peak=2 * size, rises=rises)
        peaks = CudaMetrics(
            requested_peak_bytes=own.peak_live_bytes, allocated_peak_bytes=round(size),
            reserved_peak_bytes=round(size),
        )  # fmt: skip
        return put(own, live_at_start_bytes=round(size / 2), cuda=peaks)

    return lambda: map(grown, planted.grid(modes=["train"]))


def product(depth: int, batch: int) -> int:
    return 2**24 * depth * batch


CASES["depth_batch"] = [
    ("in proportion to both", "+++++++", growth(product)),
    ("a constant over most of it", "-------", growth(lambda d, b: 2**40 + d * b, 3.0)),
    ("only a constant", "------+", growth(lambda d, b: 5e7)),
    ("with the squares", "-------", growth(lambda d, b: product(d**2, b**2), 1.0)),
    ("less with more", "------.", growth(lambda d, b: 10**9 - 1000 * b)),
    ("from batch 32 on", "///.//.", growth(lambda d, b: product(d, b + 8))),
    ("each doubling a little more, the grid's end twice too large", "-------",
     growth(lambda d, b: product(d, round(b**1.137 * 16)), 1.0)),
    ("up and down by nine per cent", "------.",
     growth(lambda d, b: product(d, b) * (1.09 if math.log2(b) % 2 else 1))),
    ("a fifth of the grid", "???.???", without(growth(product), lambda w: w.batch > 127)),
    ("the root first, then more", "...-...",
     growth(lambda d, b: product(d, 1) * (b**0.5 if b < 256 else b**1.5 / 256), noise=0.01)),
    ("noise alone", "...?...", growth(product, noise=1.0)),
]  # fmt: skip


# Thresholds: what a batch was at each depth, and what it was predicted to be.
def thresholds(batch: Callable[[int], int], off: float = 1.0, **changes: Any) -> Lines:
    """Inference's hardly fall, so that the control fails."""

    def found(question: ThresholdQuestion) -> Threshold:
        work, budget = question.workload, question.budget_bytes
        fit = 5000 - work.depth if work.mode == "inference" else batch(work.depth)
        fields = {"largest_fit": fit, "smallest_fail": fit + 1, "confirmed": True}
        fields |= {"predicted": round(fit * off), "live_bytes_predict": fit} | changes
        return planted.threshold(work, budget_bytes=budget, **fields)

    return lambda: map(found, find("oom_thresholds").thresholds(Size.DEFAULT, "cpu"))


def falling(depth: int) -> int:
    return 10**5 // (depth + 12)


def failed_above(depth: int) -> Lines:
    """All thresholds of deeper networks ended in an error."""
    return lambda: (
        put(one, outcome=Outcome.ERROR, largest_fit=None, smallest_fail=None, confirmed=False)
        if one.workload.depth > depth else one
        for one in thresholds(falling)()
    )  # fmt: skip


CASES["oom_thresholds"] = [
    ("falling, as predicted", "++", thresholds(falling)),
    ("growing, three times as predicted", "--", thresholds(lambda d: 100 * d, 1 / 3)),
    ("all alike, a third as predicted", "--", thresholds(lambda d: 1000, 3.0)),
    ("falling but once", "/+", thresholds(lambda d: falling(d) if d != 32 else 9000)),
    ("falling by one example a step", "-.", thresholds(lambda d: 9000 - round(math.log2(d)))),
    ("deeper than 4: all failed", "??", failed_above(4)),
    ("predictions are missing", ".?",
     lambda: (put(one, predicted=None if one.workload.depth > 4 else one.predicted)
              for one in thresholds(falling)())),
    ("never confirmed", "??", thresholds(falling, confirmed=False)),
    ("the next one did not fail", "??", thresholds(falling, smallest_fail=None)),
]  # fmt: skip


# Training next to inference.
def training(times: Callable[[int], float], activations: float, first: float = 1.0) -> Lines:
    """Training takes ``times`` inference's peak; activations are that part of the difference.

    With one example it takes ``first`` of that, so that the controls fail.
    """

    def stepped(one: Record) -> Record:
        work = one.workload
        if work.mode == "inference":
            return consistent(one, saved=0, peak=10**8)
        is_control = work.batch == 1 or work.depth == 1
        peak = 10**8 * (first if is_control and work.optimizer == "sgd" else times(work.depth))
        more = max(round(peak - 10**8), 0)
        kept = round((0 if is_control and work.optimizer == "sgd" else activations) * more)
        return consistent(one, saved=1, peak=peak, activation=kept, gradient=more - kept)

    return lambda: map(stepped, base("training_vs_inference"))


CASES["training_vs_inference"] = [
    ("three times and more, for activations", "///", training(lambda d: 2.0 + d, 1.0)),
    ("a hundredth more, for gradients", "---", training(lambda d: 1.01, 0.0, 1.01)),
    ("less, the deeper the less", "--.", training(lambda d: 0.9 / d, 0.0, 0.9)),
    ("less with depth", ".--", training(lambda d: 9.0 / d, 0.05)),
    ("deep ones failed", "???", without(training(lambda d: 2.0 + d, 1.0), lambda w: w.depth > 1)),
]


# Activation functions: tensors that one more layer keeps.
def kept(tensors: Callable[[Workload], float]) -> Lines:
    def layered(one: Record) -> Record:
        work = one.workload
        if work.mode == "inference":
            return one
        size = 4 * work.batch * known(work.width) * work.depth
        return consistent(one, saved=9999 + round(tensors(work) * size), peak=10**9)

    return lambda: map(layered, base("activations"))


def by_hand(work: Workload) -> int:
    if work.activation == "gelu":
        return 2
    return 3 if (work.model, work.activation) == ("mlp-scratch", "relu") else 1


CASES["activations"] = [
    ("one each, GELU two", "+++", kept(lambda w: 2 if w.activation == "gelu" else 1)),
    ("half of one", "--+", kept(lambda w: 0.5)),
    ("one each, GELU too: the control holds", "+?+", kept(lambda w: 1)),
    ("two each, by hand one", ".-+", kept(lambda w: 1 if w.model == "mlp-scratch" else 2)),
    ("none", "--.", kept(lambda w: 0)),
    ("a thousandth more than one", "+.+", kept(lambda w: 1.001)),
    ("by hand three", "++-", kept(by_hand)),
    ("by hand twice", "+.-", kept(lambda w: 2 if w.model == "mlp-scratch" else 1)),
    ("without ReLU", "???", without(kept(by_hand), lambda w: "lu" in w.activation)),
]


# Optimizers.
def optimizer(state: float, times: float) -> Lines:
    def updated(one: Record) -> Record:
        parts = known(one.categories_at_peak)
        more = times if "adam" in one.workload.optimizer else 2.5
        held = round(state * parts.optimizer_state)
        size = round(max(more, 1 + held / parts.parameter) * parts.parameter) + parts.input
        return consistent(one, saved=1, peak=size, optimizer_state=held)

    return lambda: map(updated, base("optimizers"))


CASES["optimizers"] = [
    ("as said", "++", optimizer(1, 4.1)),
    ("twice the state, a peak of 400", "--", optimizer(2, 400)),
    ("half the state, a peak of 2.4", "--", optimizer(0.5, 2.4)),
    ("a byte more", "++", optimizer(1 + 1e-6, 4.1)),
    ("without Adam", "??", without(optimizer(1, 4.1), lambda w: w.optimizer == "adam")),
    ("without Adam and AdamW", "??", without(optimizer(1, 4.1), lambda w: "adam" in w.optimizer)),
]


# Precisions: everything but the parameters is a multiple of float32's.
def precision(times: dict[str, float]) -> Lines:
    def narrowed(cell: Workload) -> Record:
        one = record(cell.replace(autocast=None))
        own = put(one, workload=cell, workload_id=cell.id)
        wide = known(record(cell.replace(autocast=None, dtype="float32")).saved_bytes)
        factor = times.get((cell.autocast and "autocast") or cell.dtype, 1.0)
        labels = 0 if cell.autocast else 8 * cell.batch
        saved = round((wide - labels) * factor) + labels
        peak, inputs = round(10**9 * factor), batch_bytes(cell)
        return consistent(
            own, saved=saved, peak=peak, parameter=parameter_bytes(cell), input=inputs
        )

    return lambda: map(narrowed, find("precision").cells(Size.DEFAULT))


SCALED = {"bfloat16": 0.5, "autocast": 0.5}
CASES["precision"] = [
    ("in proportion", "++", precision(SCALED)),
    ("half of it more", "--", precision({name: 1.5 * n for name, n in SCALED.items()})),
    ("a tenth", "--", precision({name: 0.1 * n for name, n in SCALED.items()})),
    ("like float32", "--", precision({})),
    ("large batches failed", "??", without(precision(SCALED), lambda w: w.batch > 16)),
]


# Widths: bytes at powers of two, times at odd widths.
def widths(
    peak: float, slower: dict[int, float] | float, noise: float, size: Size = Size.QUICK
) -> Lines:
    dice = random.Random(7)

    def sized(one: Record) -> Record:
        width = known(one.workload.width)
        power = width & (width - 1) == 0
        near = min((64, 128, 256, 512), key=lambda each: abs(each - width))
        factor = slower if isinstance(slower, float) else slower[near]
        seconds = 1e-6 * width**2 * (1 + one.workload.seed % 3) * (factor if width % 2 else 1)
        seconds *= math.exp(noise * dice.gauss(0, 1))
        bytes_ = 10**6 * width * (peak if power else 1)
        return consistent(one, saved=1, peak=bytes_, seconds=seconds)

    return lambda: map(sized, base("width", size))


CASES["width"] = [
    ("half at powers; slower", "++", widths(0.5, 1.2, 0.001)),
    ("twice at powers; faster", "--", widths(2.0, 0.8, 0.001)),
    ("alike at powers and in time", "--", widths(1.0, 1.0, 0.001)),
    ("2% slower, which is not worth it", ".-", widths(1.0, 1.02, 0.001)),
    ("25% at one power, less at another", ".-",
     widths(1.0, {64: 1.25, 256: 0.97}, 0.001, Size.DEFAULT)),
    ("noisy times", ".?", widths(1.0, 1.05, 0.5)),
    ("no neighbours", "?.", lambda: (
        record(Workload(depth=2, width=width, batch=16)) for width in (33, 37, 41, 45)
    )),
]  # fmt: skip


# Checkpoints: what a step adds with k segments, and how long it takes.
def checkpoints(
    rise: Callable[[int, int], float], times: Callable[[Workload], float], without: float = 32.0
) -> Lines:
    """A network whose gradients outweigh its activations gains nothing, as the controls need."""

    def step(one: Record) -> Record:
        work = one.workload
        k = work.checkpoint
        is_control = (work.width, work.batch) == (256, 256)
        added = (without + 1 if is_control else rise(k, work.depth)) if k else without
        start = known(one.categories_at_peak)
        alive = start.parameter + start.input
        seconds = (1 + 0.001 * (work.seed % 2)) * (times(work) if k else 1.0)
        own = consistent(one, saved=1, peak=alive + 10**6 * added, seconds=seconds)
        return put(own, live_at_start_bytes=alive)

    return lambda: map(step, base("checkpointing", Size.DEFAULT))


def root(k: int, depth: int) -> float:
    return k + depth / k


def third(work: Workload) -> float:
    return 4 / 3


CASES["checkpointing"] = [
    ("least at the root; a third longer", "++/+", checkpoints(root, third)),
    ("least at 1; more; thrice", "----", checkpoints(lambda k, d: 40.0 + 9 * k, lambda w: 3.0)),
    ("least at the depth; more; alike", "----",
     checkpoints(lambda k, d: 900.0 - 9 * k, lambda w: 1.0)),
    ("one byte less is no less", "..-.", checkpoints(lambda k, d: 32 - 1e-6, third)),
    ("1.6 in three networks, a third in one", "...-",
     checkpoints(root, lambda w: 4 / 3 if w.depth == 36 else 1.6)),
    ("two networks failed", "?.??",
     without(checkpoints(root, third), lambda w: w.width == 64)),
    ("another failed", ".???", without(checkpoints(root, third), lambda w: w.width == 256)),
]  # fmt: skip


# Micro-batches.
def parts(times: Callable[[int], float]) -> Lines:
    def split(one: Record) -> Record:
        share = times(one.workload.accumulate)
        return consistent(one, saved=10**6 * share, peak=10**9 * share)

    return lambda: map(split, base("accumulation"))


CASES["accumulation"] = [
    ("divided", "++", parts(lambda m: 1 / m)),
    ("64 bytes more", "+.", parts(lambda m: 1 / m + 6.4e-5)),
    ("alike", "--", parts(lambda m: 1)),
    ("divided by the square", "--", parts(lambda m: 1 / m**2)),
    ("most failed", "??", without(parts(lambda m: 1 / m), lambda w: w.accumulate > 2)),
]


# Whole runs.
def runs(leak: int, saved: int = 200) -> Lines:
    """Both networks, each watched in three ways."""
    plant = functools.partial(trained, leak=leak)
    models: tuple[Literal["mlp", "mlp-scratch"], ...] = ("mlp", "mlp-scratch")
    kinds: tuple[tuple[Instrument, ZeroGrad, int], ...] = (
        ("resident", "after_forward", 0), ("trace", "after_forward", 0),
        ("trace", "before_forward", saved),
    )  # fmt: skip
    return lambda: (
        plant(instrument, model=model, zero_grad=order, saved=less)
        for model in models
        for instrument, order, less in kinds
    )


CASES["training_run"] = [
    ("flat", "+++", runs(0, 200)),
    ("leaking; the order is free", "---", runs(4096, 0)),
    ("shrinking; the order saves", "--+", runs(-100, -80)),
    ("a leak of half a kilobyte", "-.-", runs(512)),
    ("one byte of order", ".-.", runs(0, 1)),
    ("three epochs of RSS alone", "???", lambda: [trained("resident", epochs=3)]),
    ("a leak at the limit", "..?", runs(256)),
]


# Steps of other networks: compiled code, ranks.
def steps(name: str, counted: Callable[[dict[str, Any]], dict[str, int]]) -> Lines:
    return lambda: (
        StepRun(job=job, outcome=Outcome.OK, counted=counted(job.arguments))
        for job in find(name).step_jobs(Size.DEFAULT)
    )


def compiled(times: float, relu: float | None = None) -> Lines:
    """Compiled code takes that part of eager code, of the network with ReLU another one."""

    def counted(job: dict[str, Any]) -> dict[str, int]:
        own = relu if relu and job.get("activation") == "relu" else times
        size = round(1000 * own) if job["compiled"] else 1000
        return {"kept": size, "allocated_peak_bytes": size, "reserved_peak_bytes": size}

    return steps("compiled_memory", counted)


CASES["compiled_memory"] = [
    ("half", "++????", compiled(0.5)),
    ("half, but not with ReLU", "--++++", compiled(0.5, 1.0)),
    ("alike", "------", compiled(1.0)),
    ("twice", "------", compiled(2.0)),
    ("most failed", "??????", without(compiled(0.9), lambda job: job["batch"] not in (256, 2))),
]


def ranks(times: float, power: float) -> Lines:
    """A rank holds ``times`` what it should, of which as many ranks to that power are taken."""
    from experiments.distributed_memory.network import NETWORK

    whole = parameter_bytes(NETWORK)

    def counted(job: dict[str, Any]) -> dict[str, int]:
        share = job["world_size"] ** power
        held = {"ddp": 4 * whole * times, "zero": 2 * whole * (1 + times / share)}
        size = round(held.get(job["strategy"], 4 * whole * times / share))
        peak = round(2**34 / (1 if job["strategy"] == "ddp" else share))
        return {"held": size, "allocated_peak_bytes": peak, "reserved_peak_bytes": peak}

    return steps("distributed_memory", counted)


CASES["distributed_memory"] = [
    ("divided", "++++", ranks(1.0, 1)),
    ("the same on every rank: the control of DDP holds", "?---", ranks(1.0, 0)),
    ("twice, and not divided", "----", ranks(2.0, 0)),
    ("half, and divided too much", "----", ranks(0.5, 2)),
    ("most failed", "????", without(ranks(1.0, 1), lambda job: job["world_size"] > 8)),
]


def cases() -> Iterator[Any]:
    """Yield all cases; those of an experiment but its first two and its last one are slow."""
    for name, given in CASES.items():
        for case in given:
            marks = () if case in (*given[:2], given[-1]) else pytest.mark.slow
            yield pytest.param(name, *case[1:], id=f"{name}: {case[0]}", marks=marks)


@pytest.mark.parametrize(("name", "letters", "lines"), [*cases()])
def test_planted_data_get_their_verdicts(
    name: str, letters: str, lines: Lines, tmp_path: Path
) -> None:
    claims = section(name, tmp_path, lines()).claims
    given = "".join(LETTERS[one.verdict] for one in claims).ljust(len(letters))
    asked = "".join(a if b == "." else b for a, b in zip(given, letters, strict=True))
    assert given == asked, [(one.headline or one.sentence, one.words) for one in claims]
    for one in claims:
        assert one.second
        assert one.open_reason or one.verdict is not Verdict.OPEN


def test_one_byte_more_turns_nothing_and_is_said(tmp_path: Path) -> None:
    def more(one: Record) -> Record:
        parts = known(one.categories_at_peak)
        state = put(parts, optimizer_state=parts.optimizer_state + 1)
        peak = known(one.peak_live_bytes) + 1
        return put(one, categories_at_peak=state, peak_live_bytes=peak, phases=None)

    first, *_ = section("optimizers", tmp_path, map(more, base("optimizers"))).claims
    count = len(base("optimizers"))
    assert first.verdict is Verdict.SUPPORTED
    assert first.number.endswith(f"; the second source differs in {count} of {count} cells")


def test_each_claim_of_each_experiment_can_hold_fail_both_ways_and_stay_open() -> None:
    assert {name for name in names_found() if find(name).source is None} == set(CASES)
    for name, given in CASES.items():
        for letters in zip(*(case[1] for case in given), strict=True):
            assert letters.count("+") + letters.count("/") >= 1, (name, letters)
            assert letters.count("-") >= 2, (name, letters)
            assert letters.count("?") >= 1, (name, letters)
