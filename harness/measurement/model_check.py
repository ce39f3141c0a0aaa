"""The memory model against the installed PyTorch: tiny workloads, measured and predicted."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest

import torch

from harness.measurement.passes import saved_pass, trace_pass
from harness.measurement.process.worker import prime
from harness.prediction.mlp.cpu_trace import UnsupportedWorkloadError, predict_trace
from harness.prediction.predict_workload import predict
from harness.prediction.versions import described_version, is_newer_than_known, torch_version
from harness.schema.events import Event
from harness.schema.workload import ACTIVATIONS, Workload
from harness.training import training_step

_PLAIN = Workload(hidden=(12, 7), in_features=20, classes=5, batch=9, optimizer="none")
_BY_HAND = _PLAIN.replace(model="mlp-scratch")
_DEEP = _PLAIN.replace(hidden=(12, 7, 6))
_WIDE = _PLAIN.replace(hidden=(64, 48), in_features=96, batch=64, dtype="bfloat16")

PROBES: tuple[Workload, ...] = (
    *(_PLAIN.replace(activation=name) for name in ACTIVATIONS),
    *(_BY_HAND.replace(activation=name) for name in ACTIVATIONS),
    _PLAIN.replace(mode="inference"),
    _BY_HAND.replace(mode="inference"),
    *(
        _PLAIN.replace(optimizer=optimizer, foreach=foreach)
        for optimizer in ("sgd", "momentum", "adam", "adamw")
        for foreach in ("on", "off")
    ),
    _BY_HAND.replace(optimizer="adamw", dtype="float64"),
    _PLAIN.replace(batch=1, hidden=(1, 1), classes=1, in_features=1),
    _PLAIN.replace(accumulate=4),
    _BY_HAND.replace(accumulate=9),
    _PLAIN.replace(checkpoint=1),
    _PLAIN.replace(checkpoint=2, activation="gelu", accumulate=2),
    _BY_HAND.replace(checkpoint=2),
    _BY_HAND.replace(checkpoint=1, activation="tanh"),
    *(
        _DEEP.replace(norm=norm, dropout=dropout, activation=activation)
        for norm, dropout in (("batch", 0.0), ("layer", 0.0), ("none", 0.3))
        for activation in ("relu", "relu_inplace", "gelu")
    ),
    *(
        _DEEP.replace(norm=norm, dropout=0.3, checkpoint=2, accumulate=2)
        for norm in ("batch", "layer")
    ),
    _DEEP.replace(norm="batch", dropout=0.3, mode="inference"),
    _DEEP.replace(norm="layer", optimizer="momentum", dtype="float64", threads=2),
    *(
        _PLAIN.replace(mode=mode, activation=activation, autocast="bfloat16", batch=70)
        for activation in ("relu", "gelu")
        for mode in ("train", "inference")
    ),
    _PLAIN.replace(optimizer="momentum", dtype="float16"),
    _WIDE,
    _WIDE.replace(model="mlp-scratch", activation="tanh", threads=2),
)


@dataclass(frozen=True, kw_only=True)
class ModelCheck:
    """The comparison: how many workloads are equal, and the first difference of each other one."""

    workloads: int
    differences: dict[Workload, str]
    unsupported: tuple[str, ...]
    """Why some workloads could not be predicted here."""

    def __str__(self) -> str:
        """Name the versions and the number of equal workloads."""
        equal = self.workloads - len(self.differences)
        head = f"torch {torch_version() or torch.__version__}, rules of {described_version()}"
        result = f"{head}: {equal} of {self.workloads} workloads equal"
        return "; ".join((result, *self.unsupported))


def check_model(workloads: Sequence[Workload] = PROBES) -> ModelCheck:
    """Compare the events and saved bytes of ``workloads`` with the model's; takes seconds."""
    prime()
    differences: dict[Workload, str] = {}
    unsupported: dict[str, None] = {}
    compared = 0
    threads = torch.get_num_threads()
    for workload in workloads:
        try:
            torch.set_num_threads(workload.threads)
            difference = _difference(workload)
            compared += 1
        except UnsupportedWorkloadError as error:
            unsupported.setdefault(f"unsupported: {error}")
            continue
        finally:
            torch.set_num_threads(threads)
        if difference:
            differences[workload] = difference
    return ModelCheck(workloads=compared, differences=differences, unsupported=tuple(unsupported))


def why_exactness_is_not_tested() -> str | None:
    """Return why the model need not be exact here; None on a version whose rules are known."""
    if not is_newer_than_known(torch_version()):
        return None
    return f"newer than the versions whose rules are known: {check_model()}"


def _difference(workload: Workload) -> str | None:
    """Return the first event that is not the predicted one, or other saved bytes."""
    predicted = _comparable(predict_trace(workload, without_scratch=True).events, workload)
    trace = trace_pass(workload, _leave_as_they_are, training_step.no_phase)
    pairs = zip_longest(predicted, _comparable(trace.events, workload))
    for number, (expected, event) in enumerate(pairs, 1):
        if expected != event:
            return f"event {number}: predicted {_text(expected)}, measured {_text(event)}"
    built = training_step.build(workload, _leave_as_they_are)
    training_step.step(built)
    saved = saved_pass(built, training_step.no_phase)
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
    """Make the labels valid; no event depends on the values."""
    del x
    if y is not None:
        y.zero_()


def _comparable(events: Sequence[Event], workload: Workload) -> list[Event]:
    """Return events in an order that does not depend on addresses, and without them.

    Left out is the scratch of 16-bit matmuls, which depends on the processor: blocks that are
    freed by the very next event. Autocast empties its cache in the order of a hash table of
    addresses, at the end of a forward pass: neighbouring frees are sorted there.
    """
    scratch: set[int] = set()
    if {workload.dtype, workload.autocast} & {"bfloat16", "float16"}:
        scratch = {place for first in _scratch(events) for place in (first, first + 1)}
    kept = [e._replace(address=0) for place, e in enumerate(events) if place not in scratch]
    return _in_order(kept) if workload.autocast else kept


def _scratch(events: Sequence[Event]) -> Iterator[int]:
    """Yield the places of blocks that a matmul allocates only while it runs."""
    for place, (event, following) in enumerate(pairwise(events)):
        freed = (following.address, following.size_bytes) == (event.address, -event.size_bytes)
        if freed and event.size_bytes > 0 and event.operator.endswith(("aten::mm", "aten::addmm")):
            yield place


def _in_order(events: Iterable[Event]) -> list[Event]:
    ordered: list[Event] = []
    frees: list[Event] = []
    for each in events:
        if each.size_bytes < 0 and each.phase == "forward":
            frees.append(each)
            continue
        ordered += [*sorted(frees), each]
        frees = []
    return ordered + sorted(frees)
