"""Trains a network in one worker, and measures the memory of every step.

The instruments ``resident`` and ``traced`` run in separate processes, because each would disturb
the other. ``resident`` reads the RSS (on a GPU, the reserved bytes) and the rise during each step.
``traced`` records every allocation and free since before the network was built. The trace gives the
exact peak of each step and the live bytes after the step.

numpy shuffles the examples, so the shuffle uses no memory of PyTorch's allocator.
"""

import dataclasses
import gc
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
from torch import Tensor

from harness.instruments import tensor_roles
from harness.instruments.allocation_trace import AllocationRecorder
from harness.instruments.cuda_counters import reserved_rise
from harness.instruments.rss import resident_rise
from harness.instruments.saved_tensors import SavedTensors
from harness.measurement.train_job import Train
from harness.processes.workload_job import doing
from harness.schema.events import CATEGORIES, Trace, totals
from harness.schema.training_run import ZeroGrad
from harness.schema.workload import Workload
from harness.training.data import load_fashion_mnist
from harness.training.module_step import BuiltStep, Phase, no_phase, run_step
from harness.training.training_step import build

TRAIN, EVALUATE = "train", "evaluate"


class Images(NamedTuple):
    """A data set in memory: uint8 (n, features) and int64 labels (n,)."""

    x: Tensor
    y: Tensor


Watch = Callable[[], AbstractContextManager[Phase]]
"""Function that returns a context manager around one training step or evaluated batch."""


class Training(NamedTuple):
    """A network, its data, and the number of epochs."""

    workload: Workload
    training: Images
    validation: Images
    epochs: int
    zero_grad: ZeroGrad = "before_forward"

    def steps(self) -> dict[str, list[Any]]:
        """Return columns with the kind, epoch and number of examples of every batch."""
        once = [
            (kind, len(part))
            for kind, images in ((TRAIN, self.training), (EVALUATE, self.validation))
            for part in _parts(np.arange(len(images.x)), self.workload.batch)
        ]
        return {
            "kind": [kind for kind, _ in once] * self.epochs,
            "epoch": [epoch for epoch in range(1, self.epochs + 1) for _ in once],
            "rows": [rows for _, rows in once] * self.epochs,
        }


@doing(Train)
def run(job: Train, announce: Phase) -> dict[str, Any]:
    """Run the training that the job describes; return accuracies and the memory of every step."""
    del announce
    workload, plan = job.workload, job.plan
    train = _images(workload, plan.examples, train=True)
    validation = _images(workload, plan.validation, train=False)
    training = Training(workload, train, validation, plan.epochs, plan.zero_grad)
    gc.collect()  # what loading left behind would go in the middle of the first epoch
    return traced(training) if plan.instrument == "trace" else resident(training)


def _images(workload: Workload, count: int, *, train: bool) -> Images:
    """Return ``count`` examples of the training or the validation set, or random examples."""
    if workload.data == "fashion-mnist":
        x, y = load_fashion_mnist(train=train)
    else:
        random = np.random.default_rng(workload.seed)
        values = random.integers(0, 256, (count, workload.in_features), dtype=np.uint8)
        x = torch.from_numpy(values)
        y = torch.from_numpy(random.integers(0, workload.classes, count))
    return Images(x[:count].clone(), y[:count].clone())


def resident(training: Training) -> dict[str, Any]:
    """Train; return the RSS (on a GPU, reserved bytes) after each step and its rise in it."""
    size_of: Callable[[], int] = torch.cuda.memory_reserved
    rise_of: Callable[[], AbstractContextManager[Any]] = reserved_rise
    if training.workload.device != "cuda":
        process = psutil.Process()
        size_of, rise_of = lambda: int(process.memory_info().rss), resident_rise
    steps = training.steps()
    # Written to beforehand: what a list of observations takes would show as growth, 300 bytes
    # a step.
    sizes = np.full((len(steps["kind"]), 2), -1, dtype=np.int64)
    seconds = np.full(len(sizes), -1.0)
    numbers = iter(range(len(sizes)))

    @contextmanager
    def watch() -> Iterator[Phase]:
        number = next(numbers)
        start = time.perf_counter()
        with rise_of() as rise:
            yield no_phase
        seconds[number] = time.perf_counter() - start
        sizes[number] = size_of(), rise.rise_bytes

    ended = _train(training, _empty(training.workload), watch)
    metrics = {
        "resident_bytes": sizes[:, 0].tolist(),
        "rise_bytes": sizes[:, 1].tolist(),
        "seconds": seconds.tolist(),
    }
    return {"epochs": ended, "steps": steps | metrics}


def traced(training: Training, after: Callable[[], object] = lambda: None) -> dict[str, Any]:
    """Train and record every allocation; during this recording, call ``after`` after each step."""
    steps = training.steps()
    with AllocationRecorder(training.workload.device, operators=False) as recorder:
        with recorder.phase("build"):
            built = _empty(training.workload)
        recorder.mark(tensor_roles.parameter_addresses(built.model))
        saved = SavedTensors(recorder.mark_saved)

        @contextmanager
        def watch() -> Iterator[Phase]:
            recorder.next_step()
            with saved.watch():
                yield recorder.phase
            recorder.mark(tensor_roles.gradient_addresses(built.model))
            recorder.mark(tensor_roles.state_addresses(built.optimizer))
            after()

        ended = _train(training, built, watch, recorder.mark)
    trace = recorder.trace
    return {
        "epochs": ended,
        "steps": steps | _per_step(trace, len(steps["kind"])),
        "categories": _categories(trace, steps["kind"], steps["rows"]),
    }


def _empty(workload: Workload) -> BuiltStep:
    """Build the network and its optimizer, without a batch."""
    least = workload.accumulate * (1 + (workload.norm == "batch"))
    built = build(workload.replace(batch=least), lambda *_: None)
    return dataclasses.replace(built, x=torch.empty(0), y=None)


def _train(
    training: Training,
    built: BuiltStep,
    watch: Watch,
    mark: Callable[[dict[int, str]], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Train and validate; return the number, validation accuracy and duration of each epoch."""
    workload, train, validation, epochs, zero_grad = training
    random = np.random.default_rng(workload.seed)

    def with_batch(images: Images, part: Any, phase: Phase) -> BuiltStep:
        with phase("build"):
            x, y = _batch(images, torch.from_numpy(part), workload)
        mark(tensor_roles.input_addresses(x, y))
        return dataclasses.replace(built, x=x, y=y)

    ended = []
    for epoch in range(1, epochs + 1):
        started = time.perf_counter()
        order = random.permutation(len(train.x))
        for part in _parts(order, workload.batch):
            with watch() as phase:
                run_step(with_batch(train, part, phase), phase, zero_grad=zero_grad)
        correct = 0
        for part in _parts(np.arange(len(validation.x)), workload.batch):
            with watch() as phase:
                correct += _correct(with_batch(validation, part, phase), phase)
        ended.append(
            {
                "epoch": epoch,
                "accuracy": correct / len(validation.x),
                "seconds": time.perf_counter() - started,
            }
        )
    return ended


def _parts(order: np.ndarray[Any, np.dtype[np.int64]], batch: int) -> Iterator[Any]:
    """Yield the indices in ``order`` as batches; the last batch may be smaller."""
    for start in range(0, len(order), batch):
        yield order[start : start + batch]


def _batch(images: Images, index: Tensor, workload: Workload) -> tuple[Tensor, Tensor]:
    """Return new tensors for a batch: examples scaled to [0, 1], and labels."""
    dtype: torch.dtype = getattr(torch, workload.dtype)
    x, y = images.x[index].to(dtype).div_(255), images.y[index]
    return x.to(workload.device), y.to(workload.device)


def _correct(built: BuiltStep, phase: Phase) -> int:
    """Return the number of correctly classified examples in the batch."""
    with phase("forward"), torch.no_grad():
        return int((built.model(built.x).argmax(1) == built.y).sum())


def _per_step(trace: Trace, steps: int) -> dict[str, list[Any]]:
    """Return each step's live bytes at its start, peak and end, and the phase of the peak."""
    live, number = trace.initial_bytes, 0
    columns: dict[str, list[Any]] = {
        name: [] for name in ("start_bytes", "peak_bytes", "end_bytes", "peak_phase")
    }
    for step_number in range(steps + 1):
        start, peak, phase = live, live, ""
        while number < len(trace.events) and trace.events[number].step == step_number:
            live = trace.live_bytes[number]
            if live > peak:
                peak, phase = live, trace.events[number].phase
            number += 1
        if step_number:
            for column, value in zip(columns.values(), (start, peak, live, phase), strict=True):
                column.append(value)
    return columns


def _categories(
    trace: Trace, kinds: Sequence[str], rows: Sequence[int]
) -> dict[str, dict[str, int]]:
    """For one step of each of four kinds, return the live bytes at the peak by category."""
    numbered = list(zip(itertools.count(1), kinds, rows, strict=False))
    training = [(number, size) for number, kind, size in numbered if kind == TRAIN]
    full = max(size for _, size in training)
    chosen = {
        "first step": [training[0][0]],
        "a later step": [number for number, size in training[1:] if size == full],
        "last, partial batch": [number for number, size in training if size < full],
        "evaluation": [n for n, kind, size in numbered if kind == EVALUATE and size == full],
    }
    at_peaks = {}
    for name, numbers in chosen.items():
        if numbers:
            order = Trace(trace.events, trace.initial_bytes, steps=numbers[-1]).peak_order
            sums = totals(trace.alive_after(order), "category")
            at_peaks[name] = {category: sums.get(category, 0) for category in CATEGORIES}
    return at_peaks
