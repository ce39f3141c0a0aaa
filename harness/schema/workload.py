"""``Workload`` describes one step of an MLP completely, and ``Grid`` combines many workloads.

A ``Workload`` has all facts that determine the bytes of a step. Equal workloads have equal ids on
every machine. The command line's flags are generated from the help text and the rule of each field.
"""

import dataclasses
import hashlib
import itertools
import json
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from harness.schema.argument_checks import ArgumentError
from harness.schema.errors import HarnessError, did_you_mean
from harness.schema.step_choices import MODES as MODES
from harness.schema.step_choices import OPTIMIZERS as OPTIMIZERS

MODELS = ("mlp", "mlp-scratch")
ACTIVATIONS = ("relu", "relu_inplace", "sigmoid", "tanh", "gelu", "silu", "leaky_relu", "identity")
DTYPES = ("float32", "float64", "bfloat16", "float16")
AUTOCAST_DTYPES = ("bfloat16", "float16")
NORMS = ("none", "batch", "layer")
DEVICES = ("cpu", "cuda")

MAX_DEPTH = 65_536
MAX_SIZE = 2**31 - 1
MAX_ELEMENTS = 2**56


class WorkloadError(HarnessError, ValueError):
    """The value of a field is invalid; the message names the field, the rule and the value.

    >>> import harness
    >>> harness.Workload(batch=0)
    Traceback (most recent call last):
        ...
    harness.schema.workload.WorkloadError: batch must be between 1 and 2,147,483,647, got 0
    """

    def __init__(self, field_name: str, value: object, rule: str, hint: str = "") -> None:
        super().__init__(f"{field_name} must be {rule}, got {value!r}{hint}")


def _choice(default: Any, choices: Sequence[str], help_text: str) -> Any:
    return field(default=default, metadata={"choices": choices, "help": help_text})


def _count(default: Any, low: int, high: int, help_text: str) -> Any:
    return field(default=default, metadata={"range": (low, high), "help": help_text})


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Workload:
    """One training or inference step of one network on one batch.

    Every field has a default. ``depth`` and ``width`` describe hidden layers of equal width.
    ``hidden`` overrides ``depth`` and ``width``; ``width`` is None if the widths differ.

    Attributes:
        model: ``mlp`` with ``nn.Linear`` layers, or ``mlp-scratch`` with plain weight matrices.
        depth: number of hidden layers; the output layer is not counted.
        width: number of units of each hidden layer.
        hidden: number of units of each hidden layer in order, if the layers differ.
        in_features: number of features; the batch has the shape (batch, in_features).
        classes: number of classes; the output has the shape (batch, classes).
        activation: activation function after each hidden layer.
        norm: normalization before each activation function, ``none``, ``batch`` or ``layer``.
        dropout: dropout probability after each activation function.
        batch: number of examples in a step.
        dtype: data type of parameters and activations.
        autocast: autocast data type of the forward pass; None for no autocast.
        optimizer: ``none``, ``sgd``, ``momentum``, ``adam`` or ``adamw``.
        foreach: PyTorch's optimizer option ``foreach``, as ``auto``, ``on`` or ``off``.
        mode: ``train``, or ``inference`` for a forward pass without gradients.
        checkpoint: number of checkpointed segments; 0 for none.
        accumulate: number of micro-batches per step.
        device: ``cpu`` or ``cuda``.
        threads: number of CPU threads per operation.
        data: source of the batch, ``synthetic`` or ``fashion-mnist``; does not affect memory.
        malloc: ``pinned`` for fixed settings of glibc's malloc, ``system`` for unchanged settings.
        seed: seed of weights and synthetic data.

    Raises:
        WorkloadError: the value of a field is invalid.

    >>> Workload(depth=2, width=64).widths
    (64, 64)
    >>> Workload(hidden=(512, 128)).depth
    2
    >>> Workload(width=64, batch=512).replace(depth=8)
    Workload(depth=8, width=64, batch=512)
    >>> Workload(batch=0)
    Traceback (most recent call last):
    ...
    harness.schema.workload.WorkloadError: batch must be between 1 and 2,147,483,647, got 0
    """

    model: str = _choice("mlp", MODELS, "Model: nn.Linear layers, or matrices from scratch.")
    depth: int = _count(1, 1, MAX_DEPTH, "Number of hidden layers, without the output layer.")
    width: int | None = _count(256, 1, MAX_SIZE, "Units of each hidden layer.")
    hidden: tuple[int, ...] = field(
        default=(), metadata={"help": "Units of each hidden layer in order, e.g. 512,256,128."}
    )
    in_features: int = _count(784, 1, MAX_SIZE, "Features of one example.")
    classes: int = _count(10, 1, MAX_SIZE, "Number of classes.")
    activation: str = _choice("relu", ACTIVATIONS, "Activation function of the hidden layers.")
    norm: str = _choice("none", NORMS, "Normalization before each activation function.")
    dropout: float = field(
        default=0.0,
        metadata={"share": True, "help": "Dropout probability after each activation function."},
    )
    batch: int = _count(256, 1, MAX_SIZE, "Batch size.")
    dtype: str = _choice("float32", DTYPES, "Data type of parameters and activations.")
    autocast: str | None = _choice(None, AUTOCAST_DTYPES, "Autocast dtype of the forward pass.")
    optimizer: str = _choice("sgd", OPTIMIZERS, "Optimizer.")
    foreach: str = _choice(
        "auto", ("auto", "on", "off"), "Whether the optimizer updates all parameters at once."
    )
    mode: str = _choice("train", MODES, "A training step, or a forward pass without gradients.")
    checkpoint: int = _count(0, 0, MAX_DEPTH, "Number of checkpointed segments; 0 for none.")
    accumulate: int = _count(1, 1, MAX_SIZE, "Number of micro-batches per step.")
    device: str = _choice("cpu", DEVICES, "Device that the step runs on.")
    threads: int = _count(1, 1, 4096, "Number of CPU threads per operation.")
    data: str = _choice("synthetic", ("synthetic", "fashion-mnist"), "Source of the batch.")
    malloc: str = _choice(
        "pinned", ("pinned", "system"), "Settings of glibc's malloc: fixed ones, or the system's."
    )
    seed: int = _count(0, 0, 2**63 - 1, "Seed of weights and synthetic data.")

    def __post_init__(self) -> None:
        self._normalise_hidden()
        if type(self.dropout) in (int, float):  # so that 0, 0.0 and -0.0 are one value
            object.__setattr__(self, "dropout", self.dropout + 0.0)
        for item in dataclasses.fields(self):
            _check_field(item, getattr(self, item.name))
        self._check_combinations()

    def _normalise_hidden(self) -> None:
        """Set depth and width from ``hidden``, so that equal networks are equal workloads."""
        if not self.hidden:
            return
        if len(self.hidden) > MAX_DEPTH:
            raise WorkloadError("hidden", len(self.hidden), f"at most {MAX_DEPTH:,} widths")
        for width in self.hidden:
            if type(width) is not int or not 1 <= width <= MAX_SIZE:
                raise WorkloadError("hidden", width, f"whole numbers between 1 and {MAX_SIZE:,}")
        equal = len(set(self.hidden)) == 1
        object.__setattr__(self, "depth", len(self.hidden))
        object.__setattr__(self, "width", self.hidden[0] if equal else None)
        object.__setattr__(self, "hidden", () if equal else tuple(self.hidden))

    def _check_combinations(self) -> None:
        if self.width is None and not self.hidden:
            raise WorkloadError("width", None, "given if hidden is not")
        self._check_sizes()
        self._check_layers()
        if self.checkpoint > self.depth:
            raise WorkloadError("checkpoint", self.checkpoint, f"at most depth ({self.depth})")
        if self.accumulate > self.batch:
            raise WorkloadError("accumulate", self.accumulate, f"at most batch ({self.batch})")
        if self.mode == "inference" and (self.checkpoint or self.accumulate > 1):
            name = "checkpoint" if self.checkpoint else "accumulate"
            default = 0 if self.checkpoint else 1
            raise WorkloadError(name, getattr(self, name), f"{default} in mode inference")
        if self.data == "fashion-mnist" and (self.in_features, self.classes) != (784, 10):
            shape = f"{self.in_features:,} features and {self.classes:,} classes"
            rule = f"synthetic for {shape} (Fashion-MNIST has 784 and 10)"
            raise WorkloadError("data", self.data, rule)

    def _check_layers(self) -> None:
        """Raise ``WorkloadError`` for a too small batch or an option that ``mlp-scratch`` lacks."""
        for name, without in (("norm", "none"), ("dropout", 0), ("autocast", "left out")):
            if self.model == "mlp-scratch" and name in self.changed():
                rule = f"{without} with model mlp-scratch"
                raise WorkloadError(name, getattr(self, name), rule)
        if self.batch < self.least_batch and self.accumulate <= self.batch:
            rule = f"at least {self.least_batch} for training with batch normalization"
            if self.accumulate > 1:
                rule += f" in {self.accumulate} micro-batches"
            raise WorkloadError("batch", self.batch, rule)

    def _check_sizes(self) -> None:
        """Raise ``WorkloadError`` if a product of sizes would overflow 64 bits."""
        layers = (self.in_features, *self.widths, self.classes)
        weights = sum(itertools.starmap(operator.mul, itertools.pairwise(layers)))
        if weights > MAX_ELEMENTS:
            rule = f"small enough for at most {MAX_ELEMENTS:,} weights in all layers"
            raise WorkloadError("width", max(self.widths), rule)
        if self.batch * sum(layers) > MAX_ELEMENTS:
            rule = f"at most {MAX_ELEMENTS // sum(layers):,} for layers of this width"
            raise WorkloadError("batch", self.batch, rule)

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of the hidden layers, first to last."""
        return self.hidden or (self.width or 0,) * self.depth

    @property
    def least_batch(self) -> int:
        """Smallest batch that is valid with the other fields of this workload.

        Each micro-batch has at least one example. Training with batch normalization needs two
        examples, because one example has no variance.
        """
        two = self.norm == "batch" and self.mode == "train"
        return self.accumulate * (2 if two else 1)

    @property
    def id(self) -> str:
        """Stable 16-digit hash of the workload.

        The hash leaves out fields with default values, so a new field in a later version does not
        change existing ids.
        """
        text = json.dumps(self.changed(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def changed(self) -> dict[str, object]:
        """Return the fields that differ from their defaults."""
        return {
            item.name: getattr(self, item.name)
            for item in dataclasses.fields(self)
            if getattr(self, item.name) != item.default
        }

    def replace(self, **changes: object) -> Self:
        """Return a copy with changed fields; a new depth or width gives all layers the same width.

        Args:
            changes: fields and their new values.

        Returns:
            The new workload.

        Raises:
            WorkloadError: the value of a field is invalid.

        >>> Workload(hidden=(512, 128)).replace(depth=3, width=64).widths
        (64, 64, 64)
        """
        fields: dict[str, Any] = {**changes}
        if fields.keys() & {"depth", "width"}:
            fields.setdefault("hidden", ())
        return dataclasses.replace(self, **fields)

    def __repr__(self) -> str:
        """Return the expression that constructs the workload, with its non-default fields."""
        fields = self.changed()
        if self.hidden:  # which decides depth and width
            fields = {k: v for k, v in fields.items() if k not in ("depth", "width")}
        return f"Workload({', '.join(f'{name}={value!r}' for name, value in fields.items())})"

    def __str__(self) -> str:
        widths = f"{self.depth} x {self.width}" if self.width else "-".join(map(str, self.hidden))
        shown = {"model", "depth", "width", "hidden", "batch", "mode", "activation", "optimizer"}
        rest = [f"{name} {value}" for name, value in self.changed().items() if name not in shown]
        head = [f"{self.model} {widths}", f"batch {self.batch}", self.mode, self.activation]
        return ", ".join([*head, self.optimizer, *rest])


def _check_field(item: "dataclasses.Field[Any]", value: Any) -> None:
    """Raise WorkloadError if ``value`` breaks the rule in the field's metadata."""
    if value is None and (item.default is None or item.name == "width"):
        return
    choices = item.metadata.get("choices")
    if choices and value not in choices:
        hint = did_you_mean(str(value), choices)
        raise WorkloadError(item.name, value, f"one of {', '.join(choices)}", hint)
    if "share" in item.metadata and not (type(value) is float and 0 <= value < 1):
        raise WorkloadError(item.name, value, "at least 0 and less than 1")
    if "range" in item.metadata:
        low, high = item.metadata["range"]
        if type(value) is not int or not low <= value <= high:
            whole = "" if type(value) is int else "a whole number "
            raise WorkloadError(item.name, value, f"{whole}between {low:,} and {high:,}")


@dataclass(frozen=True, kw_only=True)
class Grid:
    """All workloads that combine the values of ``axes``, in a fixed order.

    Attributes:
        base: workload with the values of all fields that do not vary.
        axes: list of values for each field that varies; the last field varies fastest.

    Raises:
        WorkloadError: an axis is not a field of a workload, or has no values.

    >>> grid = Grid(base=Workload(width=8), axes={"depth": [1, 2], "batch": [32, 64]})
    >>> [(cell.depth, cell.batch) for cell in grid]
    [(1, 32), (1, 64), (2, 32), (2, 64)]
    """

    base: Workload = field(default_factory=Workload)
    axes: Mapping[str, Sequence[object]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_workload(self.base, "base")
        names = [item.name for item in dataclasses.fields(Workload)]
        for name, values in self.axes.items():
            if name not in names:
                raise WorkloadError("axes", name, f"fields of a workload ({', '.join(names)})")
            if not isinstance(values, Sequence) or isinstance(values, str) or not values:
                raise WorkloadError(f"axis {name}", values, "a list of one value or more")

    def __iter__(self) -> Iterator[Workload]:
        for values in itertools.product(*self.axes.values()):
            yield self.base.replace(**dict(zip(self.axes, values, strict=True)))

    def __len__(self) -> int:
        count = 1
        for values in self.axes.values():
            count *= len(values)
        return count


def check_workload(value: object, name: str = "workload") -> Workload:
    """Return ``value`` if it is a workload; otherwise raise ``ArgumentError``."""
    if isinstance(value, Workload):
        return value
    hint = "; write Workload(**...)" if isinstance(value, dict) else ""
    kind = type(value).__name__
    raise ArgumentError(f"{name} must be a harness.Workload, got a {kind}{hint}")
