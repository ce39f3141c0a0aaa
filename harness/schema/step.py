"""``harness.Step`` describes one step of your own network; this module does not import torch."""

import ast
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Self, TypedDict, TypeVar

from harness.schema.argument_checks import ArgumentError, check_choice, check_names
from harness.schema.errors import StepError, did_you_mean
from harness.schema.input_spec import InputShapes, InputSpec, input_specs, names_function
from harness.schema.step_choices import COMPILE_MODES, LOSSES, MODES, OPTIMIZERS
from harness.schema.target_name import hub_of, mlp_of, parts_of_name
from harness.schema.workload import Workload

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Function = TypeVar("Function", bound=Callable[..., object])
EVERYWHERE = "*"
"""Key in ``answers`` whose value is used for each line of code without a key of its own."""
_AUTOCAST = ("float16", "bfloat16")


@dataclass(frozen=True, eq=False)
class Step:
    """One step of your own network, validated at construction.

    Attributes:
        target: a network, a function that returns a network, or a name such as
            ``package.module:Net``, ``my_model.py:Net``, ``hf:NAME_OR_FOLDER``, ``timm:NAME`` or
            ``torchvision:NAME``.
        batch: number of examples in the step.
        inputs: shape of one example without the batch dimension, such as ``(3, 224, 224)``,
            ``"3x224x224"`` or ``{"tokens": "int64:256"}``. You can also give a function of the
            batch size that returns inputs and labels, or the function's name. A network from a hub
            needs no ``inputs``.
        arguments: keyword arguments of a ``target`` that is given by name.
        optimizer: a name such as ``adamw``, or a function of the parameters, or a function's name.
        loss: a name such as ``sum``, or a function of output and labels, or a function's name.
        classes: number of classes of the labels; None for labels that are 0 or uninitialized.
        mode: ``train``, or ``inference`` for a forward pass without gradients.
        autocast: ``float16`` or ``bfloat16``; None for no autocast.
        accumulate: number of micro-batches; must divide the batch. Only one micro-batch is on the
            GPU at a time. If your loop copies the whole batch to the GPU, add the bytes of the
            other micro-batches.
        compile: True, or a mode of ``torch.compile``; None for no compilation.
        prepare: function that is called with the network, before compilation and before the steps.
        threads: number of CPU threads per operation.
        answers: for each line of code ``FILE:LINE``, the value that the line reads from the GPU.

    Raises:
        StepError: a value is invalid; the message names the field, the value and the rule.

    >>> import harness
    >>> step = harness.Step("my_model.py:Net", batch=32, inputs="3x224x224", optimizer="adamw")
    >>> step.replace(batch=64).batch
    64
    >>> harness.Step("my_model.py:Net", batch=0, inputs="3x224x224")
    Traceback (most recent call last):
        ...
    harness.schema.errors.StepError: batch must be a whole number of at least 1, got 0
    """

    target: "str | nn.Module | Callable[..., nn.Module]"
    batch: int
    _: KW_ONLY
    inputs: "InputShapes | Callable[[int], tuple[object, object]] | None" = None
    arguments: Mapping[str, object] = field(default_factory=dict)
    optimizer: "str | Callable[[Iterable[Tensor]], torch.optim.Optimizer]" = "sgd"
    loss: "str | Callable[..., Tensor]" = "cross-entropy"
    classes: int | None = None
    mode: str = "train"
    autocast: "str | torch.dtype | None" = None
    accumulate: int = 1
    compile: str | bool | None = None
    prepare: "Callable[[nn.Module], object] | None" = None
    threads: int = 1
    answers: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_target(self.target, self.arguments)
        _check_whole("threads", self.threads)
        if self.classes is not None:
            _check_whole("classes", self.classes)
        check_values(self.batch, self.accumulate, self.mode, self.autocast_name, self.compile_mode)
        _check_named("optimizer", self.optimizer, OPTIMIZERS)
        _check_named("loss", self.loss, LOSSES)
        _ = self.specs

    def replace(self, **changes: object) -> Self:
        """Return a copy with changed fields.

        Args:
            changes: fields and their new values.

        Returns:
            The new step.

        Raises:
            StepError: a new value is invalid.
        """
        return replace(self, **changes)  # type: ignore[arg-type]  # checked when it is made

    @property
    def specs(self) -> tuple[InputSpec, ...]:
        """The shape and type of each input; empty if a function makes the inputs."""
        if self.inputs_from is not None or (self.inputs is None and hub_of(self.target)):
            return ()
        specs = input_specs(self.inputs)
        if len({spec.name is None for spec in specs}) > 1:
            raise StepError("inputs: give all of them a name, or none")
        return specs

    @property
    def inputs_from(self) -> object:
        """The function that makes inputs and labels, or its name; None if ``inputs`` is shapes."""
        named = isinstance(self.inputs, str) and names_function(self.inputs)
        return self.inputs if callable(self.inputs) or named else None

    @property
    def autocast_name(self) -> str | None:
        """Name of the autocast type; None for no autocast."""
        return None if self.autocast is None else str(self.autocast).removeprefix("torch.")

    @property
    def compile_mode(self) -> str | None:
        """The mode of ``torch.compile``; None without compilation."""
        if self.compile in (None, False):
            return None
        return COMPILE_MODES[0] if self.compile is True else str(self.compile)


def check_values(
    batch: int, accumulate: int, mode: str, autocast: str | None, compile_mode: str | None
) -> None:
    """Raise ``StepError`` if a value of a step is invalid."""
    _check_whole("batch", batch)
    _check_whole("accumulate", accumulate)
    if batch % accumulate:
        raise StepError(f"accumulate must divide the batch of {batch}, got {accumulate}")
    if mode not in MODES:
        hint = " (did you mean inference?)" if mode in ("eval", "test", "predict") else ""
        raise StepError(f"mode must be one of {', '.join(MODES)}, got {mode!r}{hint}")
    if autocast not in (None, *_AUTOCAST):
        raise StepError(f"autocast must be float16 or bfloat16, got {autocast!r}")
    if compile_mode is not None:
        check_choice("compile", compile_mode, COMPILE_MODES)


def _check_whole(name: str, value: object) -> None:
    if type(value) is not int or value < 1:
        raise StepError(f"{name} must be a whole number of at least 1, got {value!r}")


class StepOptions(TypedDict, total=False):
    """All fields of ``Step`` except target and batch, as keyword arguments."""

    inputs: "InputShapes | Callable[[int], tuple[object, object]]"
    arguments: Mapping[str, object]
    optimizer: "str | Callable[[Iterable[Tensor]], torch.optim.Optimizer]"
    loss: "str | Callable[..., Tensor]"
    classes: int | None
    mode: str
    autocast: "str | torch.dtype | None"
    accumulate: int
    compile: str | bool | None
    prepare: "Callable[[nn.Module], object] | None"
    threads: int
    answers: Mapping[str, object]


def takes_a_step(function: Function) -> Function:
    """Make ``help`` and completion show the fields of ``Step`` instead of ``**step``."""
    shown = inspect.signature(function)
    plain = [one for one in shown.parameters.values() if one.kind is not one.VAR_KEYWORD]
    _, _, *options = inspect.signature(Step).parameters.values()
    vars(function)["__signature__"] = shown.replace(parameters=[*plain, *options])
    return function


def as_step(verb: str, target: object, batch: object, options: StepOptions) -> Step | Workload:
    """Return the step or workload that the arguments of a public function describe."""
    known = [one.name for one in fields(Step)]
    check_names(verb, options, known)
    if isinstance(target, Step | Workload):
        of_step = {**({} if batch is None else {"batch": batch}), **options}
        for name, value in of_step.items():
            kind, hint = type(target).__name__, ""
            if hasattr(target, name):
                hint = f"; write {kind.lower()}.replace({name}={value!r})"
            raise ArgumentError(f"{verb} of a {kind} takes no {name}{hint}")
        return target
    if not (callable(target) or isinstance(target, str)):
        kinds = "a harness.Step, a harness.Workload, a network, a function that returns one"
        raise ArgumentError(f"target must be {kinds}, or its name, got {type(target).__name__}")
    if batch is None:
        raise ArgumentError(f"{verb} needs the batch of a network, e.g. batch=32")
    return Step(target, batch, **options)  # type: ignore[arg-type]  # checked when it is made


def _check_target(target: object, arguments: Mapping[str, object]) -> None:
    if isinstance(target, str):
        if (fields_of_mlp := mlp_of(target)) is not None:
            values = ", ".join(f"{name}={value!r}" for name, value in fields_of_mlp.items())
            raise StepError(f"{target}: in Python an MLP is a harness.Workload({values})")
        parts_of_name(target)
    elif not callable(target):
        kind = type(target).__name__
        raise StepError(f"target must be a network or a function that returns one, got a {kind}")
    elif arguments:
        raise StepError("arguments are those of a target that is named; write lambda: Net(...)")
    for name, value in arguments.items():
        if not name.isidentifier() or not _is_literal(value):
            raise StepError(f"arguments must be Python literals by name, got {name}={value!r}")


def _is_literal(value: object) -> bool:
    try:
        return bool(ast.literal_eval(repr(value)) == value)
    except (ValueError, SyntaxError):
        return False


def _check_named(field_name: str, value: object, known: tuple[str, ...]) -> None:
    if isinstance(value, str) and value not in known and ":" not in value:
        rule = f"{field_name} must be one of {', '.join(known)}, or MODULE:CALLABLE"
        raise StepError(f"{rule}, got {value!r}{did_you_mean(value, known)}")
    if not isinstance(value, str) and not callable(value):
        raise StepError(f"{field_name} must be a name or a function, got {value!r}")
