"""One step of the user's own network: checked when it is described, built when it is run."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from harness.schema.input_spec import InputSpec, parse_input
from harness.schema.module_request import MODES
from harness.training.example_inputs import example_inputs
from harness.training.module_step import Loss, OptimizerMaker, Step, StepError, make_optimizer

ON_CUDA = "CUDA is used, but the step is one of the CPU: say device='cuda', or name a GPU"

Inputs = Callable[[int], tuple[Any, Any]]
InputShapes = Sequence[int] | str | Sequence[str] | Mapping[str, str | Sequence[int]]
"""One shape; one or several of ``[TYPE:]SHAPE``; or either by the name of the model's argument."""


class OwnStep:
    """A step of a network that a function makes, on any device.

    Args:
        build: function that returns the network, or the network itself.
        batch: examples in a step.
        inputs: shapes of one example, or a function of the batch that returns (input, labels).
        optimizer: a known name, or a function of the parameters.
        loss: a known name, or a function of output and labels.
        mode: ``train`` or ``inference``.
        autocast: ``float16`` or ``bfloat16``, for forward pass and loss.
        accumulate: micro-batches of a step; it divides the batch.
        prepare: called with the network before the first step.

    Raises:
        StepError: an argument is wrong; the message names it.

    >>> OwnStep(build=lambda: nn.Linear(8, 2), batch=4, inputs=(8,)).network("cpu")
    Linear(in_features=8, out_features=2, bias=True)

    """

    def __init__(
        self,
        *,
        build: Callable[[], nn.Module] | nn.Module,
        batch: int,
        inputs: Inputs | InputShapes | None = None,
        optimizer: str | OptimizerMaker = "sgd",
        loss: str | Loss = "cross-entropy",
        mode: str = "train",
        autocast: str | torch.dtype | None = None,
        accumulate: int = 1,
        prepare: Callable[[nn.Module], object] | None = None,
    ) -> None:
        self.build = _checked_build(build)
        self.batch = _checked_count("batch", batch)
        self.accumulate = _checked_count("accumulate", accumulate)
        if self.batch % self.accumulate:
            rule = f"accumulate must divide the batch of {self.batch}, got {self.accumulate}"
            raise StepError(rule)
        self.mode = _checked_mode(mode)
        self.inputs = _checked_inputs(inputs, self.mode)
        self.optimizer = optimizer
        self.loss = loss
        self.autocast = _checked_autocast(autocast)
        self.prepare = prepare

    def network(self, device: str) -> nn.Module:
        """Build the network, move it to ``device`` and prepare it.

        Raises:
            StepError: what ``build`` returns is no network.

        """
        model: Any = self.build()
        if not isinstance(model, nn.Module):
            kind = type(model).__name__
            raise StepError(f"build must return a torch.nn.Module, got a {kind}")
        if device != "cpu":
            model = model.to(device)
        if self.prepare is not None:
            self.prepare(model)
        return model

    def step(self, model: nn.Module, device: str, batch: int | None = None) -> Step:
        """Make the inputs, of another batch if one is given, and the optimizer of the step."""
        x, y = self._example(batch or self.batch, device)
        model.train(self.mode == "train")
        trained = [p for p in model.parameters() if p.requires_grad]
        return Step(
            model=model,
            x=x,
            y=y,
            optimizer=make_optimizer(self.optimizer, trained) if self.mode == "train" else None,
            loss=self.loss,
            mode=self.mode,
            autocast=self.autocast,
            device_type=device,
            accumulate=self.accumulate,
        )

    def _example(self, batch: int, device: str) -> tuple[Any, Any]:
        made: Any = self.inputs(batch // self.accumulate)
        if not isinstance(made, tuple) or len(made) != 2:
            kind = type(made).__name__
            raise StepError(f"inputs must return (input, labels), got a {kind}")
        if device == "cpu":
            return made
        moved = tree_map_only(Tensor, lambda tensor: tensor.to(device), made)
        return moved[0], moved[1]


def _checked_build(build: Any) -> Callable[[], nn.Module]:
    if isinstance(build, nn.Module):
        return lambda: build
    if not callable(build):
        kind = type(build).__name__
        raise StepError(f"build must be a network or a function that returns one, got a {kind}")
    maker: Callable[[], nn.Module] = build
    return maker


def _checked_count(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise StepError(f"{name} must be a whole number of at least 1, got {value!r}")
    return value


def _checked_mode(mode: str) -> str:
    if mode not in MODES:
        hint = " (did you mean inference?)" if mode in ("eval", "test", "predict") else ""
        raise StepError(f"mode must be one of {', '.join(MODES)}, got {mode!r}{hint}")
    return mode


def _checked_autocast(autocast: Any) -> torch.dtype | None:
    if autocast is None or autocast in (torch.float16, torch.bfloat16):
        found: torch.dtype | None = autocast
        return found
    if autocast in ("float16", "bfloat16"):
        return getattr(torch, str(autocast))  # type: ignore[no-any-return]
    raise StepError(f"autocast must be float16 or bfloat16, got {str(autocast)!r}")


def _checked_inputs(inputs: Any, mode: str) -> Inputs:
    if callable(inputs):
        made: Inputs = inputs
        return made
    if inputs is None:
        raise StepError("give inputs: the shape of one example, e.g. (3, 224, 224)")
    return example_inputs(_specs(inputs), with_labels=mode == "train")


def _specs(inputs: Any) -> list[InputSpec]:
    """Return the description of each input."""
    if isinstance(inputs, Mapping):
        return [_spec(shape, str(name)) for name, shape in inputs.items()]
    if isinstance(inputs, str) or all(isinstance(extent, int) for extent in inputs):
        return [_spec(inputs, None)]
    return [_spec(shape, None) for shape in inputs]


def _spec(shape: Any, name: str | None) -> InputSpec:
    if isinstance(shape, str):
        return parse_input(shape if name is None else f"{name}={shape}")
    try:
        extents = tuple(int(extent) for extent in shape)
    except (TypeError, ValueError):
        rule = "inputs must be shapes such as (3, 224, 224) or 'int64:1024', or a function"
        raise StepError(f"{rule} of the batch, got {shape!r}") from None
    return InputSpec(shape=extents, name=name)
