"""Compares the memory model with the installed PyTorch on tiny workloads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise, product, zip_longest
from typing import Any

import torch

from harness.measurement.passes import saved_pass, trace_pass
from harness.prediction.mlp.cpu_trace import predict_trace
from harness.prediction.mlp.predict_workload import predict
from harness.prediction.versions import described_version, torch_version
from harness.processes.worker import prime
from harness.schema.events import Event
from harness.schema.workload import ACTIVATIONS, Workload
from harness.training.module_step import no_phase, run_step
from harness.training.training_step import build

_PLAIN = Workload(hidden=(12, 7), in_features=20, classes=5, batch=9, optimizer="none")
_DEEP = _PLAIN.replace(hidden=(12, 7, 6))
_WIDE = _PLAIN.replace(hidden=(64, 48), in_features=96, batch=64, dtype="bfloat16")


def _probes() -> Iterator[Workload]:
    for base in (_PLAIN, _PLAIN.replace(model="mlp-scratch")):
        changes: tuple[dict[str, Any], ...] = (
            {"mode": "inference"},
            {"optimizer": "adamw", "dtype": "float64"},
            {"accumulate": 9},
            {"checkpoint": 1, "activation": "tanh"},
            {"checkpoint": 2, "activation": "gelu", "accumulate": 2},
        )
        yield from (base.replace(activation=name) for name in ACTIVATIONS)
        yield from (base.replace(**change) for change in changes)
    for optimizer, foreach in product(("sgd", "momentum", "adam", "adamw"), ("on", "off")):
        yield _PLAIN.replace(optimizer=optimizer, foreach=foreach)
    yield _PLAIN.replace(batch=1, hidden=(1, 1), classes=1, in_features=1)
    for activation in ("relu", "relu_inplace", "gelu"):
        for norm, dropout in (("batch", 0.0), ("layer", 0.0), ("none", 0.3)):
            yield _DEEP.replace(norm=norm, dropout=dropout, activation=activation)
    yield _DEEP.replace(norm="batch", dropout=0.3, mode="inference")
    yield _DEEP.replace(norm="layer", optimizer="momentum", dtype="float64", threads=2)
    for activation, mode in product(("relu", "gelu"), ("train", "inference")):
        yield _PLAIN.replace(mode=mode, activation=activation, autocast="bfloat16", batch=70)
    yield _PLAIN.replace(optimizer="momentum", dtype="float16")
    yield _WIDE
    yield _WIDE.replace(model="mlp-scratch", activation="tanh", threads=2)


PROBES = tuple(_probes())


@dataclass(frozen=True, kw_only=True)
class ModelCheck:
    """Number of compared workloads, and the first difference of each differing workload."""

    workloads: int
    differences: dict[Workload, str]

    def __str__(self) -> str:
        """Return the versions and the number of workloads without a difference."""
        head = f"torch {torch_version() or torch.__version__}, rules of {described_version()}"
        equal = self.workloads - len(self.differences)
        return f"{head}: {equal} of {self.workloads} workloads equal"


def check_model() -> ModelCheck:
    """Compare measured and predicted events and saved bytes; this takes seconds."""
    prime()
    differences = {}
    threads = torch.get_num_threads()
    try:
        for workload in PROBES:
            torch.set_num_threads(workload.threads)
            if (difference := _difference(workload)) is not None:
                differences[workload] = difference
    finally:
        torch.set_num_threads(threads)
    return ModelCheck(workloads=len(PROBES), differences=differences)


def _difference(workload: Workload) -> str | None:
    """Describe the first difference in events or saved bytes; None if there is no difference."""
    predicted = _comparable(predict_trace(workload, without_scratch=True).events, workload)
    trace = trace_pass(workload, _leave_as_they_are, no_phase)
    pairs = zip_longest(predicted, _comparable(trace.events, workload))
    for number, (expected, event) in enumerate(pairs, 1):
        if expected != event:
            return f"event {number}: predicted {_text(expected)}, measured {_text(event)}"
    built = build(workload, _leave_as_they_are)
    run_step(built)
    saved = saved_pass(built, no_phase)
    whole = predict(workload)
    for name in ("saved_bytes", "saved_input_bytes"):
        if getattr(whole, name) != saved[name]:
            return f"{name}: predicted {getattr(whole, name)}, measured {saved[name]}"
    return None


def _text(event: Event | None) -> str:
    if event is None:
        return "none"
    place = f"step {event.step}, {event.phase}, module {event.module or '(network)'}"
    return f"{event.size_bytes:+,} B of {event.category} in {event.operator or place} ({place})"


def _leave_as_they_are(x: torch.Tensor, y: torch.Tensor | None) -> None:
    """Set the labels to zero, which is a valid class; leave ``x`` uninitialized."""
    del x
    if y is not None:
        y.zero_()


def _comparable(events: Sequence[Event], workload: Workload) -> list[Event]:
    """Return events without their addresses, in an order that does not depend on addresses.

    Temporary blocks of 16-bit matmuls are left out, because they depend on the processor. Autocast
    empties its cache in an order that depends on addresses, so consecutive frees of a forward pass
    are sorted.
    """
    scratch: set[int] = set()
    if {workload.dtype, workload.autocast} & {"bfloat16", "float16"}:
        for place, (event, after) in enumerate(pairwise(events)):
            freed = (after.address, after.size_bytes) == (event.address, -abs(event.size_bytes))
            if freed and event.operator.endswith(("aten::mm", "aten::addmm")):
                scratch |= {place, place + 1}
    kept = [e._replace(address=0) for place, e in enumerate(events) if place not in scratch]
    if not workload.autocast:
        return kept
    ordered: list[Event] = []
    for is_free, group in groupby(kept, lambda e: e.size_bytes < 0 and e.phase == "forward"):
        neighbours = list(group)
        ordered += sorted(neighbours) if is_free else neighbours
    return ordered
