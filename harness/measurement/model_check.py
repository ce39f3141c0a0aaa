"""Does the memory model hold for the installed PyTorch? Tiny workloads, measured and predicted.

Every rule of ``torch_rules`` is exercised by some of them. Where a measured event is not the
predicted one, the operators of the events that differ name the rule.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise
from typing import NamedTuple

import torch

from harness.measurement.passes import saved_pass, trace_pass
from harness.measurement.process.worker import prime
from harness.prediction.mlp.cpu_trace import UnsupportedWorkloadError, predict_trace
from harness.prediction.predict_workload import predict
from harness.prediction.torch_rules import Rule, rules_in_force
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


_HELPERS = ("aten::empty", "aten::zeros", "aten::add", "aten::div", "aten::_to_copy")
"""Operators that others use inside, where the event is the other one's."""

Position = tuple[int, int]


class Exercised(NamedTuple):
    """The rules that a workload exercises, and those that do not hold for it."""

    rules: frozenset[str]
    differing: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class RuleCheck:
    """Result of one rule: the number of workloads that exercise it, and those that differ."""

    rule: Rule
    workloads: int
    differing: tuple[Workload, ...]

    @property
    def verdict(self) -> str:
        """Return "holds", "differs" or "not checked"."""
        if self.differing:
            return "differs"
        return "holds" if self.workloads else "not checked"

    def __str__(self) -> str:
        """Say in how many workloads the rule holds or differs."""
        if self.differing:
            return f"differs in {len(self.differing)} of {self.workloads} workloads"
        return f"holds in {self.workloads} workloads" if self.workloads else "not checked"


@dataclass(frozen=True, kw_only=True)
class ModelCheck:
    """The comparison of every rule with the installed PyTorch."""

    torch: str
    described: str
    workloads: int
    rules: tuple[RuleCheck, ...]
    unsupported: tuple[str, ...]
    """Why some workloads could not be predicted here."""

    @property
    def differing(self) -> tuple[RuleCheck, ...]:
        """The rules that do not hold."""
        return tuple(check for check in self.rules if check.differing)

    def __str__(self) -> str:
        """Say in one sentence what was found."""
        head = f"torch {self.torch}, rules of {self.described}: "
        if not self.differing:
            rest = f"every event of {self.workloads} workloads as predicted"
        else:
            rest = "; ".join(
                f"{check.rule.label} {check}, e.g. {check.differing[0]}" for check in self.differing
            )
        return head + "; ".join((rest, *self.unsupported))


def check_model(workloads: Sequence[Workload] = PROBES) -> ModelCheck:
    """Compare the events of ``workloads`` with the model's; takes seconds."""
    prime()
    found: dict[Workload, Exercised] = {}
    unsupported: dict[str, None] = {}
    for workload in workloads:
        try:
            found[workload] = _compare(workload)
        except UnsupportedWorkloadError as error:
            unsupported.setdefault(f"unsupported: {error}")
    found = _with_checkpointing(found)
    rules = tuple(
        RuleCheck(
            rule=rule,
            workloads=sum(rule.name in each.rules for each in found.values()),
            differing=tuple(w for w, each in found.items() if rule.name in each.differing),
        )
        for rule in rules_in_force()
    )
    return ModelCheck(
        torch=torch.__version__ if torch_version() is None else str(torch_version()),
        described=str(described_version()),
        workloads=len(found),
        rules=rules,
        unsupported=tuple(unsupported),
    )


def why_exactness_is_not_tested() -> str | None:
    """Return why the model need not be exact here; None on a version whose rules are known.

    On a newer version the reason names the rules that differ.
    """
    if not is_newer_than_known(torch_version()):
        return None
    return f"newer than the versions whose rules are known: {check_model()}"


def _compare(workload: Workload) -> Exercised:
    predicted = _comparable(predict_trace(workload, without_scratch=True).events, workload)
    with _threads(workload.threads):
        measured_trace = trace_pass(workload, _leave_as_they_are, training_step.no_phase)
        saved = _saved_metrics(workload)
    measured = _comparable(measured_trace.events, workload)
    rules = {_rule_behind(each, workload) for each in predicted} | {"saved-tensors"}
    differing = {_rule_behind(each, workload) for each in _unequal(predicted, measured)}
    if workload.checkpoint:
        rules.add("checkpointing")
    expected = predict(workload)
    if any(getattr(expected, name) != value for name, value in saved.items()):
        differing.add("saved-tensors")
    return Exercised(frozenset(rules), frozenset(differing))


def _with_checkpointing(found: dict[Workload, Exercised]) -> dict[Workload, Exercised]:
    """Name checkpointing too where a rule differs that holds without it."""
    plain = [each.differing for workload, each in found.items() if not workload.checkpoint]
    elsewhere = frozenset[str]().union(*plain)
    blamed = frozenset({"checkpointing"})
    return {
        workload: each._replace(differing=each.differing | blamed)
        if workload.checkpoint and not each.differing <= elsewhere
        else each
        for workload, each in found.items()
    }


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _leave_as_they_are(x: torch.Tensor, y: torch.Tensor | None) -> None:
    """Make the labels valid; no event depends on the values."""
    del x
    if y is not None:
        y.zero_()


def _saved_metrics(workload: Workload) -> dict[str, object]:
    built = training_step.build(workload, _leave_as_they_are)
    training_step.step(built)
    found = saved_pass(built, training_step.no_phase)
    return {name: found[name] for name in ("saved_bytes", "saved_input_bytes")}


def _comparable(events: Sequence[Event], workload: Workload) -> list[Event]:
    """Return events in an order that does not depend on addresses, and without them.

    Left out is the scratch of 16-bit matmuls, which depends on the processor: blocks that are
    freed by the very next event. Autocast empties its cache in the order of a hash table of
    addresses, at the end of a forward pass: neighbouring frees are sorted there.
    """
    scratch: set[int] = set()
    if {workload.dtype, workload.autocast} & {"bfloat16", "float16"}:
        scratch = {place for first in _scratch(events) for place in (first, first + 1)}
    found = [e._replace(address=0) for place, e in enumerate(events) if place not in scratch]
    return _in_order(found) if workload.autocast else found


def _scratch(events: Sequence[Event]) -> Iterator[int]:
    """Yield the places of blocks that a matmul allocates only while it runs."""
    for place, (event, following) in enumerate(pairwise(events)):
        freed = (following.address, following.size_bytes) == (event.address, -event.size_bytes)
        if freed and event.size_bytes > 0 and event.operator.endswith(("aten::mm", "aten::addmm")):
            yield place


def _in_order(found: Iterable[Event]) -> list[Event]:
    ordered: list[Event] = []
    frees: list[Event] = []
    for each in found:
        if each.size_bytes < 0 and each.phase == "forward":
            frees.append(each)
            continue
        ordered += [*sorted(frees), each]
        frees = []
    return ordered + sorted(frees)


def _unequal(predicted: list[Event], measured: list[Event]) -> Iterator[Event]:
    """Yield the events that only one of the two sequences has at its place."""
    matcher = SequenceMatcher(None, predicted, measured, autojunk=False)
    for tag, first, last, start, stop in matcher.get_opcodes():
        if tag != "equal":
            yield from predicted[first:last]
            yield from measured[start:stop]


def _rule_behind(event: Event, workload: Workload) -> str:
    """Return the name of the rule that describes an event: the one whose operator is innermost."""
    if workload.autocast and "aten::_to_copy" in event.operator:
        return "autocast-casts"

    def place(rule: Rule) -> Position:
        """Return how far inside the rule's operator is; helpers of other operators come last."""
        found = [
            (0 if part in _HELPERS else 1 + event.operator.rfind(part), len(part))
            for part in rule.operators
            if part in event.operator
        ]
        return max(found, default=(-1, 0))

    innermost = max(rules_in_force(), key=place)
    if place(innermost)[0] >= 0:
        return innermost.name
    # Outside any operator: a random state, or a wrapped number.
    return "checkpointing" if workload.checkpoint else "micro-batches"
