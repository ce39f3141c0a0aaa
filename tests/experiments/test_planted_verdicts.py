"""Planted truth: for each claim data on which it holds, fails in each direction, and stays open.

A case is a set of planted records, and a letter for each claim of the experiment in its order:
``+`` holds, ``/`` holds in part, ``-`` fails, ``?`` is open, ``.`` is not asked.
"""

import functools
import math
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as put

from harness.schema.experiment import Size
from harness.schema.findings import Verdict
from harness.schema.metrics import CategoryBytes, CudaMetrics
from harness.schema.record import Outcome, Record, Repeat
from harness.schema.traced_run import StepRun
from harness.schema.workload import Workload
from harness.sweeps.experiment_files import find, names_found
from tests.analysis import planted
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
def growth(law: Callable[[int, int], float]) -> Lines:
    def grown(one: Record) -> Record:
        size = round(law(one.workload.depth, one.workload.batch))
        peaks = CudaMetrics(allocated_peak_bytes=size, reserved_peak_bytes=size)
        return put(
            one, saved_bytes=size, saved_activation_bytes=size, peak_live_bytes=size,
            live_at_start_bytes=0, rss_rise_bytes=size, cuda=peaks,
        )  # fmt: skip

    return lambda: map(grown, planted.grid(modes=["train"]))


def product(depth: int, batch: int) -> int:
    return 2**24 * depth * batch


DICE = random.Random(5)
CASES["depth_batch"] = [
    ("in proportion to both", "++++++", growth(product)),
    ("a constant over most of it", "------", growth(lambda d, b: 2**40 + d * b)),
    ("only a constant", "------", growth(lambda d, b: 5e7)),
    ("with the squares", "------", growth(lambda d, b: product(d**2, b**2))),
    ("less with more", "------", growth(lambda d, b: 10**9 - 1000 * b)),
    ("from batch 32 on", "///.//", growth(lambda d, b: product(d, b + 8))),
    ("a fifth of the grid", "???.??", without(growth(product), lambda w: w.batch > 127)),
    ("noise alone", "...?..", growth(lambda d, b: product(d, b) * math.exp(DICE.gauss(0, 1)))),
]


# Thresholds: what a batch was at each depth, and what it was predicted to be.
def thresholds(batch: Callable[[int], int], off: float = 1.0, **changes: Any) -> Any:
    def found(depth: int) -> Any:
        fit = batch(depth)
        fields = {"largest_fit": fit, "smallest_fail": fit + 1, "confirmed": True}
        fields |= {"predicted": round(fit * off), "live_bytes_predict": fit} | changes
        return planted.threshold(Workload(depth=depth, width=64), **fields)

    return lambda: map(found, (1, 2, 4, 8, 16, 32, 64))


def falling(depth: int) -> int:
    return 10**6 // (depth + 12)


CASES["oom_thresholds"] = [
    ("falling, as predicted", "++", thresholds(falling)),
    ("growing, three times as predicted", "--", thresholds(lambda d: 1000 * d, 1 / 3)),
    ("all alike, a third as predicted", "--", thresholds(lambda d: 1000, 3.0)),
    ("falling but once", "/+", thresholds(lambda d: falling(d) if d < 64 else 10**6)),
    ("never confirmed", "??", thresholds(falling, confirmed=False)),
    ("the next one did not fail", "??", thresholds(falling, smallest_fail=None)),
]


# Training next to inference.
def training(times: Callable[[int], float], activations: float) -> Lines:
    """Training takes ``times`` inference's peak; activations are that part of the difference."""

    def stepped(one: Record) -> Record:
        if one.workload.mode == "inference":
            return put(one, peak_live_bytes=10**6, categories_at_peak=CategoryBytes(input=10**6))
        peak = round(10**6 * times(one.workload.depth))
        kept = round(activations * (peak - 10**6))
        parts = CategoryBytes(input=10**6, activation=kept, gradient=max(peak - 10**6 - kept, 0))
        return put(one, peak_live_bytes=peak, categories_at_peak=parts)

    return lambda: map(stepped, base("training_vs_inference"))


CASES["training_vs_inference"] = [
    ("three times and more, for activations", "+++", training(lambda d: 2.0 + d, 1.0)),
    ("a hundredth more, for gradients", "---", training(lambda d: 1.01, 0.0)),
    ("less, the deeper the less", "--.", training(lambda d: 0.9 / d, 0.0)),
    ("less with depth", ".--", training(lambda d: 9.0 / d, 0.05)),
    ("deep ones failed", "???", without(training(lambda d: 2.0 + d, 1.0), lambda w: w.depth > 1)),
]


# Activation functions: tensors that one more layer keeps.
def kept(tensors: Callable[[Workload], float]) -> Lines:
    def layered(one: Record) -> Record:
        work = one.workload
        size = 4 * work.batch * known(work.width) * work.depth
        return put(one, saved_bytes=9999 + round(tensors(work) * size))

    return lambda: map(layered, base("activations"))


def by_hand(work: Workload) -> int:
    return 3 if (work.model, work.activation) == ("mlp-scratch", "relu") else 1


CASES["activations"] = [
    ("one each", "+++", kept(lambda w: 1)),
    ("half of one", "--+", kept(lambda w: 0.5)),
    ("two each, by hand one", ".-+", kept(lambda w: 1 if w.model == "mlp-scratch" else 2)),
    ("none", "--.", kept(lambda w: 0)),
    ("by hand three", "++-", kept(by_hand)),
    ("by hand twice", "++-", kept(lambda w: 2 if w.model == "mlp-scratch" else 1)),
    ("without ReLU", "???", without(kept(by_hand), lambda w: "lu" in w.activation)),
]


# Optimizers.
def optimizer(state: float, times: float) -> Lines:
    def updated(one: Record) -> Record:
        parts = known(one.categories_at_peak)
        own = put(parts, optimizer_state=round(state * parts.optimizer_state))
        peak = round(times * parts.parameter) + parts.input
        if one.workload.optimizer in ("none", "sgd") and state != 1:
            own = put(own, optimizer_state=8)
        return put(one, peak_live_bytes=peak, categories_at_peak=own)

    return lambda: map(updated, base("optimizers"))


CASES["optimizers"] = [
    ("as said", "++", optimizer(1, 4.1)),
    ("twice the state, a peak of 400", "--", optimizer(2, 400)),
    ("half the state, a peak of 2", "--", optimizer(0.5, 2)),
    ("without Adam", "?.", without(optimizer(1, 4.1), lambda w: w.optimizer == "adam")),
    ("without Adam and AdamW", "??", without(optimizer(1, 4.1), lambda w: "adam" in w.optimizer)),
]


# Precisions: everything is a multiple of float32's.
def precision(times: dict[str, float]) -> Lines:
    def narrowed(cell: Workload) -> Record:
        one = record(cell.replace(autocast=None, dtype="float32"))
        name = (cell.autocast and "autocast") or cell.dtype
        factor = times.get(name, 1.0)
        labels = 0 if cell.autocast else 8 * cell.batch
        saved = round((known(one.saved_bytes) - labels) * factor) + labels
        held = 10**6 if cell.autocast else round(10**6 * factor)
        return put(
            one, workload=cell, workload_id=cell.id, saved_bytes=saved,
            peak_live_bytes=round(10**8 * factor), categories_at_peak=CategoryBytes(parameter=held),
        )  # fmt: skip

    return lambda: map(narrowed, find("precision").cells(Size.DEFAULT))


SCALED = {"bfloat16": 0.5, "float64": 2.0, "autocast": 0.5}
CASES["precision"] = [
    ("in proportion", "+++", precision(SCALED)),
    ("half of it more", "---", precision({name: 1.5 * n for name, n in SCALED.items()})),
    ("a tenth", "---", precision({name: 0.1 * n for name, n in SCALED.items()})),
    ("like float32", "---", precision({})),
    ("large batches failed", "???", without(precision(SCALED), lambda w: w.batch > 16)),
]


# Widths: bytes at powers of two, times at odd widths.
def widths(
    parameters: float, peak: float, slower: float, noise: float, size: Size = Size.QUICK
) -> Lines:
    dice = random.Random(7)

    def sized(one: Record) -> Record:
        width = known(one.workload.width)
        power = width & (width - 1) == 0
        seconds = 1e-6 * width**2 * (1 + one.workload.seed % 3) * (slower if width % 2 else 1)
        seconds *= math.exp(noise * dice.gauss(0, 1))
        return put(
            one,
            peak_live_bytes=round(1000 * width * (peak if power else 1)),
            saved_activation_bytes=round(8000 * float(width) ** (parameters - 1)),
            categories_at_peak=CategoryBytes(parameter=round(4 * float(width) ** parameters)),
            repeats=tuple(Repeat(number=at, wall_seconds=seconds) for at in range(2)),
        )

    return lambda: map(sized, base("width", size))


CASES["width"] = [
    ("squares; half at powers; slower", "+++", widths(2, 0.5, 1.2, 0.01)),
    ("cubes; twice at powers; faster", "---", widths(3, 2.0, 0.8, 0.01)),
    ("lines; alike at powers and in time", "---", widths(1, 1.0, 1.0, 0.001)),
    ("noise", "...", widths(2, 1.0, 1.0, 0.01)),
    ("noisy times", "..?", widths(2, 1.0, 1.0, 0.5)),
    ("four widths, none doubled", "??.", lambda: (
        record(Workload(depth=2, width=width, batch=16)) for width in (33, 37, 41, 45)
    )),
]  # fmt: skip


# Checkpoints: what a step adds with k segments, and how long it takes.

_NETWORKS = {
    "activations": Workload(in_features=64, width=64, batch=1024),
    "both": Workload(width=256, batch=512),
    "gradients": Workload(width=256, batch=256),
}


def checkpoints(
    rise: Callable[[int], float], times: float, kinds: Iterable[str] = tuple(_NETWORKS)
) -> Any:
    def step(network: Workload, segments: int) -> Record:
        work = network.replace(depth=16, **({"checkpoint": segments} if segments else {}))
        added = rise(segments) if segments else 32.0
        return planted.record(
            work, peak_live_bytes=1000 + round(10**6 * added), live_at_start_bytes=1000,
            wall_seconds=times if segments else 1.0,
        )  # fmt: skip

    return lambda: (step(_NETWORKS[kind], segments) for kind in kinds for segments in range(17))


CASES["checkpointing"] = [
    ("least at the root; a third longer", "++++", checkpoints(lambda k: k + 16 / k, 4 / 3)),
    ("least at 1; more; thrice", "----", checkpoints(lambda k: 40.0 + 9 * k, 3.0)),
    ("least at the depth; more; alike", "----", checkpoints(lambda k: 900.0 - 9 * k, 1.0)),
    ("alike everywhere", "--+.", checkpoints(lambda k: 5.0, 1.0)),
    ("one network", ".???", checkpoints(lambda k: k + 16 / k, 4 / 3, ["activations"])),
    ("another network", "?.??", checkpoints(lambda k: k + 16 / k, 4 / 3, ["both"])),
]


# Micro-batches.
def parts(times: Callable[[int], float]) -> Lines:
    def split(one: Record) -> Record:
        share = times(one.workload.accumulate)
        whole = known(record(one.workload.replace(accumulate=1)).saved_activation_bytes) - 4
        return put(
            one, saved_activation_bytes=4 + round(whole * share),
            peak_live_bytes=round(10**8 * share), live_at_start_bytes=10,
        )  # fmt: skip

    return lambda: map(split, base("accumulation"))


CASES["accumulation"] = [
    ("divided", "++", parts(lambda m: 1 / m)),
    ("alike", "--", parts(lambda m: 1)),
    ("divided by the square", "--", parts(lambda m: 1 / m**2)),
    ("most failed", "??", without(parts(lambda m: 1 / m), lambda w: w.accumulate > 2)),
]


# The process next to its tensors.
def rises(*times: float, server: str = "of seed {}") -> Any:
    def risen(malloc: str, batch: int, seed: int, factor: float) -> Record:
        rise = round(20_000_000 * factor)
        work = Workload(width=64, in_features=64, malloc=malloc, batch=batch, seed=seed)
        return planted.record(
            work, peak_live_bytes=5 + 20_000_000, live_at_start_bytes=5, rss_rise_bytes=rise,
            environment={"fork_server": server.format(seed)},
            repeats=(Repeat(number=1, wall_seconds=0.1, rss_rise_bytes=rise),),
        )  # fmt: skip

    return lambda: (
        risen(malloc, batch, seed, factor)
        for malloc in ("pinned", "system")
        for batch in (512, 1024, 2048)
        for seed, factor in enumerate(times)
    )


CASES["malloc_policy"] = [
    ("what tensors need", "+++", rises(1.01, 0.99)),
    ("three times", "--+", rises(3.0, 3.01)),
    ("next to nothing", "--+", rises(0.01, 0.02)),
    ("now half, now twice", "??-", rises(0.5, 2.0)),
    ("now all, now twice", "??-", rises(1.0, 2.0)),
    ("one process", "???", rises(1.0)),
    ("one fork server", "???", rises(1.0, 1.0, 1.0, server="one")),
]


# Whole runs.
def runs(accuracy: float, leak: int, saved: int = 1, data: str = "fashion-mnist") -> Any:
    plant = functools.partial(trained, accuracy=accuracy, leak=leak, data=data)
    early = plant("trace", zero_grad="before_forward", saved=saved)
    return lambda: (plant("resident"), plant("trace"), early)


CASES["training_run"] = [
    ("learned, flat", "++++", runs(0.85, 0)),
    ("guessed, leaking; the order is free", "----", runs(0.1, 4096, 0)),
    ("half learned; shrinking; the order saves", "?--+", runs(0.5, -100, -8)),
    ("wrong more often than a guess", "-...", runs(0.01, 0)),
    ("a leak of half a kilobyte", "+-+-", runs(0.85, 512)),
    ("synthetic images", "?...", runs(0.85, 0, data="synthetic")),
    ("three epochs of RSS alone", "????", lambda: [trained("resident", accuracy=0.9, epochs=3)]),
    ("a leak at the limit", "...?", runs(0.85, 256)),
]


# Steps of other networks: compiled code, ranks.
def steps(name: str, counted: Callable[[dict[str, Any]], dict[str, int]]) -> Lines:
    return lambda: (
        StepRun(job=job, outcome=Outcome.OK, counted=counted(job.arguments))
        for job in find(name).step_jobs(Size.DEFAULT)
    )


def compiled(times: float) -> Lines:
    def counted(job: dict[str, Any]) -> dict[str, int]:
        size = round(1000 * times) if job["compiled"] else 1000
        return {"kept": size, "allocated_peak_bytes": size, "reserved_peak_bytes": size}

    return steps("compiled_memory", counted)


CASES["compiled_memory"] = [
    ("half", "++++++", compiled(0.5)),
    ("alike", "------", compiled(1.0)),
    ("twice", "------", compiled(2.0)),
    ("most failed", "??????", without(compiled(0.9), lambda job: job["batch"] not in (256, 2))),
]


def ranks(times: float, power: float) -> Lines:
    """A rank holds ``times`` what it should, of which as many ranks to that power are taken."""
    from experiments.distributed_memory.network import NETWORK
    from harness.prediction.mlp.formula import parameter_bytes

    whole = parameter_bytes(NETWORK)

    def counted(job: dict[str, Any]) -> dict[str, int]:
        share = job["world_size"] ** power
        held = {"ddp": 4 * whole * times, "zero": 2 * whole * (1 + times / share)}
        size = round(held.get(job["strategy"], 4 * whole * times / share))
        peak = round(2**34 / share)
        return {"held": size, "allocated_peak_bytes": peak, "reserved_peak_bytes": peak}

    return steps("distributed_memory", counted)


CASES["distributed_memory"] = [
    ("divided", "++++", ranks(1.0, 1)),
    ("the same on every rank", "+---", ranks(1.0, 0)),
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


@pytest.mark.parametrize(
    ("name", "bad", "where"),
    [
        ("accumulation", {"accumulate": 8}, "parts 8"),
        ("optimizers", {"optimizer": "adam", "foreach": "off", "batch": 16}, "adam, depth 2"),
    ],
)
def test_one_byte_more_is_seen_and_placed(
    name: str, bad: dict[str, Any], where: str, tmp_path: Path
) -> None:
    def more(one: Record) -> Record:
        work, parts = one.workload, known(one.categories_at_peak)
        if work.replace(**bad) != work or (name == "optimizers" and work.depth != 2):
            return one
        state = put(parts, optimizer_state=parts.optimizer_state + 1)
        saved = known(one.saved_activation_bytes) + 1
        return put(one, categories_at_peak=state, saved_activation_bytes=saved)

    first, *_ = section(name, tmp_path, map(more, base(name))).claims
    assert first.fails_for == where


def test_each_claim_of_each_experiment_can_hold_fail_both_ways_and_stay_open() -> None:
    assert {name for name in names_found() if find(name).source is None} == set(CASES)
    for name, given in CASES.items():
        for letters in zip(*(case[1] for case in given), strict=True):
            assert letters.count("+") >= 1, (name, letters)
            assert letters.count("-") >= 2, (name, letters)
            assert letters.count("?") >= 1, (name, letters)
