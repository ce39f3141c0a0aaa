"""Builds and runs a user's step with a recorder, on tensors without memory.

Errors in the user's code or in an operator are reported in one line.
"""

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_tb
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
)
from torch.utils._python_dispatch import _disable_current_modes

from harness.instruments.forward_hooks import own_tensors, wrapped_forwards
from harness.prediction.estimate.block_recorder import BlockRecorder
from harness.schema.errors import HarnessError, StepError, UnsupportedError
from harness.schema.library_files import is_library
from harness.training.module_step import run_step
from harness.training.nested_tensors import tensors
from harness.training.own_step import ON_CUDA, OwnStep

COMPILED = "torch.compile decides what is allocated; give the network before it is compiled"
_HARNESS = str(Path(__file__).parents[2])
VALUES = "its result depends on the values of a tensor"


def run_recorded(own: OwnStep, recorder: BlockRecorder, steps: int, device: str) -> nn.Module:
    """Build the user's network on ``device``, run the steps, and return the network."""
    model = _network(own, device)
    recorder.is_built = True
    owners: dict[int, str] = {}
    for name, module in model.named_modules():
        for tensor in own_tensors(module):
            owners.setdefault(id(tensor), name)
    for tensor in _as_moved(model):
        with torch._C.DisableTorchFunction():  # here a meta tensor is a meta tensor
            recorder.see(tensor, "built")
        recorder.mark([tensor], "parameter", owners[id(tensor)])
    step = own.step(model, device)
    if device == "cpu":
        _check_on_cpu("inputs", tensors([step.x, step.y]))
    recorder.mark(tensors([step.x, step.y]), "input")
    optimizer = step.optimizer
    hooks = torch.autograd.graph.saved_tensors_hooks(recorder.pack, recorder.unpack)
    with wrapped_forwards(model, recorder.named), hooks:
        for _ in range(steps):
            recorder.step += 1
            run_step(step, recorder.announce)
            for parameter in [p for p in model.parameters() if p.requires_grad]:
                owner = owners[id(parameter)]
                recorder.mark(tensors(parameter.grad), "gradient", owner)
                if optimizer is not None:
                    recorder.mark(tensors(optimizer.state.get(parameter)), "optimizer_state", owner)
            if optimizer is not None:
                recorder.mark(tensors(optimizer.state), "optimizer_state")
    recorder.close()
    return model


def _as_moved(module: nn.Module) -> Iterator[Tensor]:
    """Yield parameters and buffers in the order in which ``Module.to`` moves them."""
    for child in module.children():
        yield from _as_moved(child)
    yield from own_tensors(module)


def _network(own: OwnStep, device: str) -> nn.Module:
    """Build the network of ``own`` without memory, or copy an existing network without memory."""

    def built() -> Any:
        model: Any = own.build()
        if not isinstance(model, nn.Module):
            return model
        if any(type(module).__name__ == "OptimizedModule" for module in model.modules()):
            raise UnsupportedError(f"unsupported: {COMPILED}")
        if device == "cpu":
            _check_on_cpu("build", model.parameters())
        return _copy_without_memory(model, device)

    checked = copy.copy(own)
    checked.build = built
    return checked.network(device)


def _copy_without_memory(model: nn.Module, device: str) -> nn.Module:
    """Copy a network that exists already; the parameters of the copy have no memory."""
    with torch._C.DisableTorchFunction():
        own = model.parameters()
        real = [p for p in own if not (p.is_meta or isinstance(p, FakeTensor))]
    if not real:
        return model
    memo: dict[int, Any] = {id(p): nn.Parameter(_empty(p), p.requires_grad) for p in real}
    if device == "cpu":  # on the GPU buffers keep their values: they are moved there
        memo |= {id(b): _empty(b) for b in model.buffers()}
    with _disable_current_modes(), torch._C.DisableTorchFunction():  # other tensors stay real
        return copy.deepcopy(model, memo)


def _empty(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)


def _check_on_cpu(name: str, given: Any) -> None:
    if any(tensor.device.type != "cpu" for tensor in given):
        raise StepError(f"{name}: {ON_CUDA}")


@contextmanager
def refusals(*, on_cpu: bool) -> Iterator[None]:
    """Convert an error in the user's code, or in an operator, into a one-line error."""
    try:
        yield
    except (HarnessError, MemoryError):
        raise
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise UnsupportedError(f"unsupported: {error.func}: {VALUES}") from error
    except Exception as error:
        if isinstance(error.__cause__, HarnessError):  # PyTorch wraps what a conversion raises
            raise error.__cause__ from error
        text = " ".join(str(error).split())
        if isinstance(error, NotImplementedError) or re.search(r"\b(meta|fake)\b", text.lower()):
            raise UnsupportedError(f"unsupported: {_without_values(text)}") from error
        if not on_cpu and "NVIDIA driver" in text:
            asked = (
                "the step asks NVIDIA's driver, e.g. for pinned memory, and an estimate has none"
            )
            raise UnsupportedError(f"unsupported: {asked}{_place(error)}") from error
        if on_cpu and re.search("cuda|nvidia", text.lower()):
            text = f"{text[:150]}; {ON_CUDA}"
        said = f"{type(error).__name__}: {text}" if text else type(error).__name__
        raise StepError(f"the step fails: {said[:400]}{_place(error)}") from error


def _place(error: Exception) -> str:
    """Return the failed line of the user's code in brackets, or an empty string."""
    frames = reversed(extract_tb(error.__traceback__))
    own = (one for one in frames if not one.filename.startswith(_HARNESS))
    first = next((one for one in own if not is_library(one.filename)), None)
    return "" if first is None else f" ({Path(first.filename).name}:{first.lineno})"


def _without_values(text: str) -> str:
    """Return a message that names the operator that needs tensor values, or PyTorch's message."""
    match = re.search(r"aten(?:::|\.)[\w.]+", text) or re.search(r"torch\.(\w+)\(\)", text)
    if match is None:
        return text.split(". ")[0][:300]
    name = match[0] if match.lastindex is None else f"aten::{match[1]}"
    return f"{name}: {VALUES}, or PyTorch has no kernel that works without them"
