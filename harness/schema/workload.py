"""One training step, described completely, and grids of them.

A ``Workload`` is everything that decides how many bytes a step needs and nothing else; two
equal workloads have equal ids on every machine. Each field carries its own help and rule,
from which the command line is generated, so a flag and its check cannot drift apart.
"""

import dataclasses
import difflib
import hashlib
import itertools
import json
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from harness.schema.errors import HarnessError

MODELS = ("mlp", "mlp-scratch")
ACTIVATIONS = (
    "relu",
    "relu_inplace",
    "sigmoid",
    "tanh",
    "gelu",
    "silu",
    "leaky_relu",
    "identity",
)
DTYPES = ("float32", "float64", "bfloat16", "float16")
AUTOCAST_DTYPES = ("bfloat16", "float16")
NORMS = ("none", "batch", "layer")
OPTIMIZERS = ("none", "sgd", "momentum", "adam", "adamw")

MAX_DEPTH = 65_536
MAX_SIZE = 2**31 - 1
MAX_ELEMENTS = 2**56


class WorkloadError(HarnessError, ValueError):
    """A field's value breaks its rule; the message names field, value and rule."""

    def __init__(self, field_name: str, value: object, rule: str) -> None:
        super().__init__(f"{field_name}: {value!r}: {rule}")


def _choice(default: Any, choices: Sequence[str], help_text: str) -> Any:
    return field(default=default, metadata={"choices": choices, "help": help_text})


def _count(default: Any, low: int, high: int, help_text: str) -> Any:
    return field(default=default, metadata={"range": (low, high), "help": help_text})


def _share(default: float, help_text: str) -> Any:
    return field(default=default, metadata={"share": True, "help": help_text})


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """One training (or inference) step of one network on one batch.

    ``depth`` and ``width`` describe equal hidden layers; ``hidden`` gives each its own width
    and then decides both (``width`` becomes None where they differ).

    Raises:
        WorkloadError: a value breaks its field's rule.

    """

    model: str = _choice("mlp", MODELS, "nn.Linear layers, or the note's from-scratch matrices")
    depth: int = _count(1, 1, MAX_DEPTH, "hidden layers (the linear predictor is not counted)")
    width: int | None = _count(256, 1, MAX_SIZE, "units in each hidden layer")
    hidden: tuple[int, ...] = field(
        default=(), metadata={"help": "widths of the hidden layers, such as 512,256,128"}
    )
    in_features: int = _count(784, 1, MAX_SIZE, "features of one example")
    classes: int = _count(10, 1, MAX_SIZE, "classes to tell apart")
    activation: str = _choice("relu", ACTIVATIONS, "function between the layers")
    norm: str = _choice("none", NORMS, "normalisation of each hidden layer before its activation")
    dropout: float = _share(0.0, "probability of dropping a unit after each activation")
    batch: int = _count(256, 1, MAX_SIZE, "examples in one step")
    dtype: str = _choice("float32", DTYPES, "type of parameters and activations")
    autocast: str | None = _choice(None, AUTOCAST_DTYPES, "run the forward pass under autocast")
    optimizer: str = _choice("sgd", OPTIMIZERS, "update rule")
    foreach: str = _choice("auto", ("auto", "on", "off"), "multi-tensor form of the optimizer")
    mode: str = _choice("train", ("train", "inference"), "a training step, or prediction")
    checkpoint: int = _count(0, 0, MAX_DEPTH, "segments that recompute activations; 0: none")
    accumulate: int = _count(1, 1, MAX_SIZE, "micro-batches that one step is split into")
    device: str = _choice("cpu", ("cpu", "cuda"), "where the step runs")
    threads: int = _count(1, 1, 4096, "CPU threads of one operation")
    data: str = _choice("synthetic", ("synthetic", "fashion-mnist"), "where the batch comes from")
    malloc: str = _choice("pinned", ("pinned", "system"), "policy of the C allocator")
    seed: int = _count(0, 0, 2**63 - 1, "seed of weights and synthetic data")

    def __post_init__(self) -> None:
        self._normalise_hidden()
        if type(self.dropout) in (int, float):  # so that 0, 0.0 and -0.0 are one value
            object.__setattr__(self, "dropout", self.dropout + 0.0)
        for item in dataclasses.fields(self):
            _check_field(item, getattr(self, item.name))
        self._check_combinations()

    def _normalise_hidden(self) -> None:
        """Let ``hidden`` decide depth and width, so that equal networks are equal workloads."""
        if not self.hidden:
            return
        if len(self.hidden) > MAX_DEPTH:
            raise WorkloadError("hidden", f"{len(self.hidden)} layers", f"at most {MAX_DEPTH}")
        for width in self.hidden:
            if type(width) is not int or not 1 <= width <= MAX_SIZE:
                raise WorkloadError("hidden", width, f"widths are whole numbers, 1 to {MAX_SIZE}")
        equal = len(set(self.hidden)) == 1
        object.__setattr__(self, "depth", len(self.hidden))
        object.__setattr__(self, "width", self.hidden[0] if equal else None)
        object.__setattr__(self, "hidden", () if equal else tuple(self.hidden))

    def _check_combinations(self) -> None:
        if self.width is None and not self.hidden:
            raise WorkloadError("width", None, "needed where hidden is not given")
        self._check_sizes()
        self._check_layers()
        if self.checkpoint > self.depth:
            raise WorkloadError("checkpoint", self.checkpoint, f"at most depth ({self.depth})")
        if self.accumulate > self.batch:
            raise WorkloadError("accumulate", self.accumulate, f"at most batch ({self.batch})")
        if self.mode == "inference" and (self.checkpoint or self.accumulate > 1):
            name = "checkpoint" if self.checkpoint else "accumulate"
            raise WorkloadError(name, getattr(self, name), "only where mode is train")
        if self.data == "fashion-mnist" and (self.in_features, self.classes) != (784, 10):
            shape = f"{self.in_features} -> {self.classes}"
            raise WorkloadError("data", self.data, f"has 784 features and 10 classes, not {shape}")

    def _check_layers(self) -> None:
        """Refuse what the from-scratch model lacks, and a batch that has no variance."""
        for name in ("norm", "dropout", "autocast"):
            if self.model == "mlp-scratch" and name in self.changed():
                rule = "only with model mlp; the note's from-scratch model has none"
                raise WorkloadError(name, getattr(self, name), rule)
        if self.batch < self.least_batch and self.accumulate <= self.batch:
            rule = f"batch normalisation trains on 2 rows or more: at least {self.least_batch}"
            if self.accumulate > 1:
                rule += f" in {self.accumulate} micro-batches"
            raise WorkloadError("batch", self.batch, rule)

    def _check_sizes(self) -> None:
        """Refuse what cannot be counted in 64 bits, before anything is multiplied there."""
        layers = (self.in_features, *self.widths, self.classes)
        weights = sum(itertools.starmap(operator.mul, itertools.pairwise(layers)))
        if weights > MAX_ELEMENTS:
            rule = f"the layers' weights together have at most {MAX_ELEMENTS} elements"
            raise WorkloadError("width", max(self.widths), rule)
        if self.batch * sum(layers) > MAX_ELEMENTS:
            rule = f"times the layers' widths at most {MAX_ELEMENTS} elements"
            raise WorkloadError("batch", self.batch, rule)

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of the hidden layers, first to last."""
        return self.hidden or (self.width or 0,) * self.depth

    @property
    def least_batch(self) -> int:
        """The smallest batch that this workload could have, all else unchanged.

        Each micro-batch has a row; in training, batch normalisation needs two to tell a variance.
        """
        two = self.norm == "batch" and self.mode == "train"
        return self.accumulate * (2 if two else 1)

    @property
    def id(self) -> str:
        """Sixteen hexadecimal digits, equal for equal workloads, ever after.

        Fields at their default are left out of the hash: a field that a later version adds
        changes no id of today's.
        """
        text = json.dumps(self.changed(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def changed(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults."""
        return {
            item.name: getattr(self, item.name)
            for item in dataclasses.fields(self)
            if getattr(self, item.name) != item.default
        }

    def replace(self, **changes: Any) -> Self:
        """Return a copy with ``changes``; a new depth or width gives equal layers again."""
        if changes.keys() & {"depth", "width"}:
            changes.setdefault("hidden", ())
        return dataclasses.replace(self, **changes)

    def __str__(self) -> str:
        widths = f"{self.depth} x {self.width}" if self.width else "-".join(map(str, self.hidden))
        shown = {"model", "depth", "width", "hidden", "batch", "mode", "activation", "optimizer"}
        rest = [f"{name} {value}" for name, value in self.changed().items() if name not in shown]
        head = [f"{self.model} {widths}", f"batch {self.batch}", self.mode, self.activation]
        return ", ".join([*head, self.optimizer, *rest])


def _check_field(item: "dataclasses.Field[Any]", value: Any) -> None:
    """Raise WorkloadError where ``value`` breaks the rule in the field's metadata."""
    if value is None and (item.default is None or item.name == "width"):
        return
    choices = item.metadata.get("choices")
    if choices and value not in choices:
        near = difflib.get_close_matches(str(value), choices, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise WorkloadError(item.name, value, f"one of {', '.join(choices)}{hint}")
    if "share" in item.metadata and not (type(value) is float and 0 <= value < 1):
        raise WorkloadError(item.name, value, "a number from 0 to below 1")
    if "range" in item.metadata:
        low, high = item.metadata["range"]
        if type(value) is not int or not low <= value <= high:
            raise WorkloadError(item.name, value, f"a whole number from {low} to {high}")


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Every combination of ``axes`` over a base workload, in a fixed order.

    ``axes`` maps field names to the values they take; the last axis varies fastest.
    """

    base: Workload = field(default_factory=Workload)
    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [item.name for item in dataclasses.fields(Workload)]
        for name, values in self.axes.items():
            if name not in names:
                raise WorkloadError("axes", name, f"one of {', '.join(names)}")
            if not values:
                raise WorkloadError(name, list(values), "an axis needs at least one value")

    def __iter__(self) -> Iterator[Workload]:
        for values in itertools.product(*self.axes.values()):
            yield self.base.replace(**dict(zip(self.axes, values, strict=True)))

    def __len__(self) -> int:
        count = 1
        for values in self.axes.values():
            count *= len(values)
        return count
