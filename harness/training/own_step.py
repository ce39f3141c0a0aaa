"""The step of a user's own network, and its example inputs."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_map_only

from harness.schema.errors import StepError
from harness.schema.input_spec import InputShapes, InputSpec, InputSpecError, input_specs
from harness.schema.step import check_values
from harness.training.module_step import BuiltStep, Loss, OptimizerMaker, make_optimizer

ON_CUDA = "CUDA is used, but the step is one of the CPU: say device='cuda', or name a GPU"

Inputs = Callable[[int], tuple[Any, Any]]


@dataclass(frozen=True, kw_only=True)
class ExampleInputs:
    """Creates a batch of example inputs and int64 labels; the object can be pickled.

    One unnamed input becomes a tensor, several unnamed inputs a tuple, and named inputs a dict.
    """

    specs: tuple[InputSpec, ...]
    with_labels: bool
    with_values: bool = False
    """If True, tensors are filled with zeros; if False, they are uninitialized."""
    classes: int | None = None
    """Labels cycle through this number of classes; if None, labels are filled like the inputs."""

    def __post_init__(self) -> None:
        if len({spec.name is None for spec in self.specs}) > 1:
            raise InputSpecError("--input: give all inputs a name, or none")

    def __call__(self, batch: int, device: str = "cpu") -> tuple[Any, Tensor | None]:
        """Return the model's input, and the labels or None."""
        make = torch.zeros if self.with_values else torch.empty
        made = [
            make(batch, *s.shape, dtype=getattr(torch, s.dtype), device=device) for s in self.specs
        ]
        labels = make(batch, dtype=torch.int64, device=device) if self.with_labels else None
        if labels is not None and self.classes is not None:
            labels = torch.arange(batch, device=device) % self.classes
        if self.specs and self.specs[0].name is not None:
            return {str(s.name): x for s, x in zip(self.specs, made, strict=True)}, labels
        return (made[0] if len(made) == 1 else tuple(made)), labels


@dataclass(kw_only=True, eq=False)
class OwnStep:
    """A training or inference step of the user's own network, on any device.

    >>> OwnStep(build=lambda: nn.Linear(8, 2), batch=4, inputs=(8,)).network("cpu")
    Linear(in_features=8, out_features=2, bias=True)
    """

    build: Callable[[], nn.Module] | nn.Module
    batch: int
    inputs: Inputs | InputShapes | None = None
    optimizer: str | OptimizerMaker = "sgd"
    loss: str | Loss = "cross-entropy"
    mode: str = "train"
    autocast: str | torch.dtype | None = None
    accumulate: int = 1
    compile: str | None = None
    prepare: Callable[[nn.Module], object] | None = None
    least_batch: int | None = None
    """Smallest batch that the step can run with; None if it is unknown."""

    def __post_init__(self) -> None:
        self.build = builder_of(self.build, may_be_compiled=self.compile is not None)
        if self.autocast is not None:
            self.autocast = str(self.autocast).removeprefix("torch.")
        check_values(self.batch, self.accumulate, self.mode, self.autocast, self.compile)
        if not callable(self.inputs):
            specs = input_specs(self.inputs)
            self.inputs = ExampleInputs(specs=specs, with_labels=self.mode == "train")

    def network(self, device: str) -> nn.Module:
        """Build and prepare the network on ``device``; if requested, call ``model.compile``."""
        built: Any = self.build()
        if not isinstance(built, nn.Module):
            kind = type(built).__name__
            raise StepError(f"build must return a torch.nn.Module, got a {kind}")
        lazy = [name for name, one in built.named_parameters() if is_lazy(one)]
        if lazy:
            run = "run it once with an example before it is returned, as its optimizer needs too"
            raise StepError(f"parameter {lazy[0]} has no size yet: {run}")
        model = built if device == "cpu" else built.to(device)
        if self.prepare is not None:
            self.prepare(model)
        if self.compile is not None:  # in place: names of modules stay, and so do their parameters
            by_backend = self.compile in ("aot_eager", "eager")
            model.compile(**{"backend" if by_backend else "mode": self.compile})
        return model

    def step(self, model: nn.Module, device: str, batch: int | None = None) -> BuiltStep:
        """Create the optimizer and inputs; ``batch`` replaces the step's batch size if given."""
        x, y = self._example(batch or self.batch, device)
        model.train(self.mode == "train")
        trained = [p for p in model.parameters() if p.requires_grad]
        return BuiltStep(
            model=model,
            x=x,
            y=y,
            optimizer=make_optimizer(self.optimizer, trained) if self.mode == "train" else None,
            loss=self.loss,
            mode=self.mode,
            autocast=None if self.autocast is None else getattr(torch, str(self.autocast)),
            device_type=device,
            accumulate=self.accumulate,
        )

    def with_values(self) -> Self:
        """Return a step whose example inputs are zeros; inputs from a function are not changed."""
        if not isinstance(self.inputs, ExampleInputs):
            return self
        return replace(self, inputs=replace(self.inputs, with_values=True))

    def _example(self, batch: int, device: str) -> tuple[Any, Any]:
        rows = batch // self.accumulate
        if isinstance(self.inputs, ExampleInputs):  # made where they are needed: millions of rows
            return self.inputs(rows, device)
        make: Any = self.inputs
        made = make(rows)
        if not isinstance(made, tuple) or len(made) != 2:
            kind = type(made).__name__
            raise StepError(f"inputs must return (input, labels), got a {kind}")
        if device == "cpu":
            return made
        moved = tree_map_only(Tensor, lambda tensor: tensor.to(device), made)
        return moved[0], moved[1]


def builder_of(build: Any, *, may_be_compiled: bool) -> Callable[[], nn.Module]:
    """Return ``build`` if it is a function, else a function that returns the network ``build``."""
    if isinstance(build, nn.Module):
        compiled = any(vars(m).get("_compiled_call_impl") is not None for m in build.modules())
        if compiled and not may_be_compiled:
            lost = "build is compiled, which is lost when it is sent to another process"
            raise StepError(f"{lost}; say compile=True, or give a function that compiles it")
        return lambda: build
    if not callable(build):
        kind = type(build).__name__
        raise StepError(f"build must be a network or a function that returns one, got a {kind}")
    maker: Callable[[], nn.Module] = build
    return maker
