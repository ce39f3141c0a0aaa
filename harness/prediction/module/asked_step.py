"""The step of a network that a prediction was asked for: checked, then run under a ledger."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._pytree import tree_map_only

from harness.instruments.forward_hooks import wrapped_forwards
from harness.prediction.module.cpu_ledger import CpuLedger
from harness.prediction.module.event_ledger import Ledger
from harness.prediction.module.module_prediction import (
    ModulePredictionError,
    UnsupportedModuleError,
)
from harness.schema.step_request import MODES
from harness.training.module_step import Loss, OptimizerMaker, Step, make_optimizer, run_step
from harness.training.nested_tensors import tensors

ON_CUDA = "CUDA is used, but the step is one of the CPU: say device='cuda', or name a GPU"

Inputs = Callable[[int], tuple[Any, Any]]
AnyLedger = CpuLedger | Ledger


class AskedStep:
    """What was asked for, checked."""

    def __init__(
        self,
        *,
        build: Callable[[], nn.Module],
        batch: int,
        input_shape: tuple[int, ...] | None = None,
        inputs: Inputs | None = None,
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
            raise ModulePredictionError(rule)
        self.prepare = prepare
        self.inputs = _checked_inputs(inputs, input_shape, mode)
        self.optimizer = optimizer
        self.loss = loss
        self.mode = _checked_mode(mode)
        self.autocast = _checked_autocast(autocast)
        self.model: nn.Module | None = None

    def run(self, ledger: AnyLedger, steps: int, device: str) -> None:
        """Build the network, move it to ``device`` and run its steps under ``ledger``."""
        model = self.network(device, is_simulated=True)
        owners = _owners(model)
        for tensor in [*model.parameters(), *model.buffers()]:
            ledger.see(tensor, "built")
            ledger.mark([tensor], "parameter", owners[id(tensor)])
        step = self.step(model, device)
        ledger.mark(tensors([step.x, step.y]), "input")
        made = step.optimizer
        trained = [p for p in model.parameters() if p.requires_grad]
        with ExitStack() as stack:
            stack.enter_context(wrapped_forwards(model, ledger.named))
            hooks = torch.autograd.graph.saved_tensors_hooks(ledger.pack, ledger.unpack)
            stack.enter_context(hooks)
            for _ in range(steps):
                ledger.step += 1
                ledger.modules[0] = ""
                run_step(step, ledger.announce)
                for parameter in trained:
                    owner = owners[id(parameter)]
                    ledger.mark(tensors(parameter.grad), "gradient", owner)
                    if made is not None:
                        state = made.state.get(parameter)
                        ledger.mark(tensors(state), "optimizer_state", owner)
                if made is not None:
                    ledger.mark(tensors(made.state), "optimizer_state")
        ledger.close()

    def network(self, device: str, *, is_simulated: bool = False) -> nn.Module:
        """Build the network, move it to ``device`` and prepare it.

        ``is_simulated`` says that tensors made here have no memory, so that others are seen.
        """
        built: Any = self.build()
        if not isinstance(built, nn.Module):
            kind = type(built).__name__
            raise ModulePredictionError(f"build must return a torch.nn.Module, got a {kind}")
        _check_compiled(built)
        if is_simulated:
            _check_made(built, device)
        self.model = model = built.to(device) if device != "cpu" else built
        if self.prepare is not None:
            self.prepare(model)
        return model

    def step(self, model: nn.Module, device: str) -> Step:
        """Make the inputs and the optimizer of the step."""
        x, y = self._example(device)
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

    def _example(self, device: str) -> tuple[Any, Any]:
        made: Any = self.inputs(self.batch // self.accumulate)
        if not isinstance(made, tuple) or len(made) != 2:
            kind = type(made).__name__
            raise ModulePredictionError(f"inputs must return (input, labels), got a {kind}")
        if device == "cpu":
            for tensor in tensors(made):
                _check_on_cpu("inputs", tensor)
            return made
        moved = tree_map_only(Tensor, lambda tensor: tensor.to(device), made)
        return moved[0], moved[1]


def _check_compiled(model: nn.Module) -> None:
    if any(type(module).__name__ == "OptimizedModule" for module in model.modules()):
        rule = "torch.compile decides what is allocated; predict the network before it is compiled"
        raise UnsupportedModuleError(f"unsupported: {rule}")


def _check_made(model: nn.Module, device: str) -> None:
    """Refuse a network made before ``build`` was called, or, on the CPU, one on another device."""
    with torch._C.DisableTorchFunction():
        for parameter in model.parameters():
            if not (parameter.is_meta or isinstance(parameter, FakeTensor)):
                rule = "build must make the network when it is called"
                hint = "name the class or a function that makes it"
                raise ModulePredictionError(f"{rule}, got one that existed before: {hint}")
            if device == "cpu":
                _check_on_cpu("build", parameter)


def _check_on_cpu(name: str, tensor: Tensor) -> None:
    if tensor.device.type != "cpu":
        raise ModulePredictionError(f"{name}: {ON_CUDA}")


def _owners(model: nn.Module) -> dict[int, str]:
    """Return the name of the first module that owns each parameter and buffer."""
    found: dict[int, str] = {}
    for name, module in model.named_modules():
        for tensor in [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
            found.setdefault(id(tensor), name)
    return found


def _checked_build(build: Any) -> Callable[[], nn.Module]:
    if isinstance(build, nn.Module):
        name = type(build).__name__
        rule = "build must be a function that returns the network"
        raise ModulePredictionError(f"{rule}, got a {name}: write build=lambda: {name}(...)")
    if not callable(build):
        kind = type(build).__name__
        raise ModulePredictionError(f"build must be a function that returns a module, got a {kind}")
    maker: Callable[[], nn.Module] = build
    return maker


def _checked_count(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ModulePredictionError(f"{name} must be a whole number of at least 1, got {value!r}")
    return value


def _checked_mode(mode: str) -> str:
    if mode not in MODES:
        hint = " (did you mean inference?)" if mode in ("eval", "test", "predict") else ""
        raise ModulePredictionError(f"mode must be one of {', '.join(MODES)}, got {mode!r}{hint}")
    return mode


def _checked_autocast(autocast: Any) -> torch.dtype | None:
    if autocast is None or autocast in (torch.float16, torch.bfloat16):
        found: torch.dtype | None = autocast
        return found
    if autocast in ("float16", "bfloat16"):
        return getattr(torch, str(autocast))  # type: ignore[no-any-return]
    raise ModulePredictionError(f"autocast must be float16 or bfloat16, got {str(autocast)!r}")


def _checked_inputs(inputs: Any, shape: Sequence[int] | None, mode: str) -> Inputs:
    if callable(inputs):
        made: Inputs = inputs
        return made
    if inputs is not None:
        kind = type(inputs).__name__
        rule = "inputs must be a function of the batch, or the shape of one example as a tuple"
        raise ModulePredictionError(f"{rule}, got a {kind}")
    if shape is None:
        raise ModulePredictionError("give input_shape, or inputs as a function of the batch")

    def example(batch: int) -> tuple[Tensor, Tensor | None]:
        labels = torch.empty(batch, dtype=torch.int64) if mode == "train" else None
        return torch.empty(batch, *shape), labels

    return example
