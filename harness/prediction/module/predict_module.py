"""The memory of a module's training step, without running it.

On the CPU the step runs on fake tensors. For CUDA it runs on a GPU made of meta tensors
(``simulated_gpu``), and the allocator model plays its events. Both see the same dispatcher,
autograd engine and optimizers that a real step uses.
"""

import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from harness.prediction.gpu import catalogue, workspaces
from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.gpu.recorded_script import RecordedSteps
from harness.prediction.gpu.simulation import play
from harness.prediction.mlp import cuda_metrics
from harness.prediction.module.asked_step import ON_CUDA, AskedStep, Inputs
from harness.prediction.module.cpu_ledger import CopiedFakeMode, CpuLedger
from harness.prediction.module.event_ledger import Ledger
from harness.prediction.module.gpu_autocast import simulated_autocast
from harness.prediction.module.gpu_functions import gpu_functions
from harness.prediction.module.gpu_scratch import KernelScratch
from harness.prediction.module.module_prediction import (
    ModulePrediction,
    ModulePredictionError,
    UnsupportedModuleError,
)
from harness.prediction.module.simulated_gpu import simulated_gpu
from harness.schema.errors import HarnessError
from harness.training.module_step import Loss, OptimizerMaker

CPU = "the metrics are those of the CPU's operators"
BELOW = (
    "what a CPU kernel allocates below the dispatcher and frees before it ends (scratch of "
    "convolutions and normalizations, of bfloat16 matmuls) is not counted"
)
SUMS = (
    "where a tensor is used twice, autograd may add its two gradients in place; here the sum is "
    "always a new block"
)
RECURRENT = (
    "LSTM layers: the workspace that oneDNN keeps is counted for float32 alone; the copies of "
    "weights and gradients inside its kernels are not"
)
NUMBERS = "a Python number that a product keeps for its backward pass, 8 bytes, is not counted"
CUDNN_RECURRENT = (
    "recurrent layers: PyTorch's own kernels are counted; the reserve that cuDNN's keep instead is "
    "not known"
)
RULES = (
    "allocations inside CUDA kernels are counted for matmuls, convolutions without cuDNN, "
    "normalization, softmax, attention, sums, losses and embeddings; those of sorts, scans and "
    "other kernels are not"
)
VALUES = "its result depends on the values of a tensor"
STEPS_ON_GPU = 3
"""The first step, a later one, and one more to see that it is steady."""


def predict_module(
    build: Callable[[], nn.Module],
    batch: int,
    *,
    input_shape: tuple[int, ...] | None = None,
    inputs: Inputs | None = None,
    optimizer: str | OptimizerMaker = "sgd",
    loss: str | Loss = "cross-entropy",
    mode: str = "train",
    steps: int | None = None,
    device: str | torch.device | None = None,
    gpu: Gpu | str | None = None,
    autocast: str | torch.dtype | None = None,
    accumulate: int = 1,
    prepare: Callable[[nn.Module], object] | None = None,
    allocator_settings: str = "",
    cudnn: bool = True,
) -> ModulePrediction:
    """Return the events of ``build()`` and ``steps`` of its steps, without allocating.

    Args:
        build: returns the network; called where floating-point tensors have no memory.
        batch: examples in a step.
        input_shape: shape of one example, for float32 inputs and int64 labels (batch,).
        inputs: or a function of the batch size that returns the model's input and the labels.
            The input is a tensor, or a tuple or dict of the model's arguments.
        optimizer: a name of ``harness profile``'s, or a function of the parameters.
        loss: a name of ``harness profile``'s, or a function of output and labels.
        mode: ``train`` or ``inference`` (one forward pass without gradients).
        steps: steps to trace, the last the measured one; by default as many as there are kinds.
        device: ``cpu`` (the default) or any spelling of a CUDA device.
        gpu: a GPU, or its name in the catalogue; it implies ``cuda``.
        autocast: type for ``torch.autocast`` around forward pass and loss, e.g. ``float16``.
        accumulate: micro-batches of a step, whose gradients are added up; it divides the batch.
        prepare: called with the network before the first step, e.g. to checkpoint its blocks.
        allocator_settings: as in PYTORCH_ALLOC_CONF.
        cudnn: whether convolutions are cuDNN's, whose workspaces are not counted, or PyTorch's.

    Raises:
        ModulePredictionError: an argument is wrong.
        UnsupportedModuleError: an operator's result depends on data, or it has no meta kernel.
        GpuError: no such GPU.
        AllocatorConfigError: settings that PyTorch would refuse, or that are not modelled.

    """
    asked = AskedStep(
        build=build,
        batch=batch,
        input_shape=input_shape,
        inputs=inputs,
        optimizer=optimizer,
        loss=loss,
        mode=mode,
        autocast=autocast,
        accumulate=accumulate,
        prepare=prepare,
    )
    if checked_device(device, gpu) == "cpu":
        return _on_cpu(asked, steps)
    found = catalogue.find(gpu) if isinstance(gpu, str) else gpu or catalogue.DEFAULT
    count = steps or (STEPS_ON_GPU if mode == "train" else 2)
    named = gpu is not None
    return _on_gpu(asked, count, found.in_environment(), allocator_settings, cudnn, named)


def checked_device(device: object, gpu: object) -> Literal["cpu", "cuda"]:
    """Return the kind of device that the arguments name.

    Raises:
        ModulePredictionError: it is neither the CPU nor a CUDA device.

    """
    if device is None:
        return "cpu" if gpu is None else "cuda"
    try:
        named = torch.device(device)  # type: ignore[call-overload]
    except (RuntimeError, TypeError):
        named = None
    if named is None or named.type not in ("cpu", "cuda"):
        raise ModulePredictionError(f"device must be cpu or cuda, got {str(device)!r}")
    if named.type == "cpu" and gpu is not None:
        raise ModulePredictionError("device must be cuda where a GPU is named, got 'cpu'")
    return "cuda" if named.type == "cuda" else "cpu"


@contextmanager
def refusals(what: str = "the step", *, on_cpu: bool = False) -> Iterator[None]:
    """Turn what goes wrong in a user's own code, or in an operator, into one clear line.

    Args:
        what: whose code it is.
        on_cpu: whether the code must not use CUDA.

    Raises:
        UnsupportedModuleError: an operator cannot do without the values of a tensor.
        ModulePredictionError: the code fails as it would in a real run.

    """
    try:
        yield
    except (HarnessError, MemoryError):
        raise
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise UnsupportedModuleError(f"unsupported: {error.func}: {VALUES}") from error
    except Exception as error:
        if isinstance(error.__cause__, HarnessError):  # PyTorch wraps what a conversion raises
            raise error.__cause__ from error
        text = " ".join(str(error).split())
        if isinstance(error, NotImplementedError) or re.search(r"\b(meta|fake)\b", text.lower()):
            raise UnsupportedModuleError(f"unsupported: {_without_values(text)}") from error
        if on_cpu and re.search("cuda|nvidia", text.lower()):
            text = f"{text[:150]}; {ON_CUDA}"
        said = f"{type(error).__name__}: {text}" if text else type(error).__name__
        raise ModulePredictionError(f"{what} fails: {said[:400]}") from error


def _without_values(text: str) -> str:
    """Name the operator in PyTorch's message, where it can be found, and what it needs."""
    found = re.search(r"aten(?:::|\.)[\w.]+", text) or re.search(r"torch\.(\w+)\(\)", text)
    if found is None:
        return text.split(". ")[0][:300]
    name = found[0] if found.lastindex is None else f"aten::{found[1]}"
    return f"{name}: {VALUES}, or PyTorch has no kernel that works without them"


def _on_cpu(asked: AskedStep, steps: int | None) -> ModulePrediction:
    ledger = CpuLedger()
    count = steps if steps is not None else 1 if asked.mode != "train" else 2
    converted = mock.patch.object(torch.utils, "swap_tensors", _convert_in_place)
    silent = mock.patch.object(logging.getLogger("torch._subclasses.fake_tensor"), "disabled", True)
    with (
        refusals(on_cpu=True),
        converted,
        silent,
        CopiedFakeMode(),
        ledger,
        warnings.catch_warnings(),
    ):
        # Copying a fake module, as nn.TransformerEncoder does, makes torch warn of itself.
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")
        asked.run(ledger, count, "cpu")
    trace = ledger.trace()
    return ModulePrediction(
        trace=trace,
        way="fake tensors",
        notes=[
            CPU,
            BELOW,
            *[RECURRENT] * _contains(asked.model, nn.LSTM),
            SUMS,
            NUMBERS,
            *dict.fromkeys(ledger.notes),
        ],
        layers=() if asked.model is None else ledger.layers.table(asked.model, trace),
        saved_bytes=ledger.layers.saved_bytes if asked.mode == "train" else None,
    )


def _convert_in_place(tensor: Tensor, converted: Tensor) -> None:
    """Give a parameter its converted data, as ``Module.to`` does with real tensors.

    With fake ones it swaps the two, which fails where anything holds a weak reference to either.
    """
    if converted.device.type != "cpu":
        raise ModulePredictionError(f"build: {ON_CUDA}")
    tensor.data = converted.data


def _contains(model: nn.Module | None, kind: type[nn.Module]) -> bool:
    return model is not None and any(isinstance(m, kind) for m in model.modules())


def _on_gpu(
    asked: AskedStep, steps: int, gpu: Gpu, settings: str, cudnn: bool, named: bool
) -> ModulePrediction:
    ledger, scratch = run_on_gpu(asked, steps, gpu, cudnn=cudnn)
    trace = ledger.trace()
    script = RecordedSteps(trace, ledger.workspace_bytes)
    found = cuda_metrics.peaks_on(script, gpu, settings)
    card = cuda_metrics.memory_of_gpu(gpu, settings) if named else None
    return ModulePrediction(
        trace=trace,
        way="simulated GPU",
        notes=[
            RULES,
            *workspaces.notes_on(gpu.capability, gpu.workspace_config),
            *ledger.notes,
            *scratch.notes,
            *[CUDNN_RECURRENT] * (cudnn and _contains(asked.model, nn.RNNBase)),
            *found.notes,
        ],
        layers=() if asked.model is None else ledger.layers.table(asked.model, trace),
        saved_bytes=ledger.layers.saved_bytes if asked.mode == "train" else None,
        cuda=found.cuda,
        card=None
        if card is None
        else cuda_metrics.fit_on_gpu(card, found, (partial(play, script),)),
    )


def run_on_gpu(
    asked: AskedStep, steps: int, gpu: Gpu, *, cudnn: bool
) -> tuple[Ledger, KernelScratch]:
    """Run the steps on the simulated ``gpu``; return what was written down, and the rules."""
    scratch = KernelScratch(gpu, cudnn=cudnn)
    ledger = Ledger(scratch)
    with (
        refusals(),
        simulated_gpu(ledger, gpu, gpu_functions(ledger, scratch)),
        simulated_autocast(),
    ):
        asked.run(ledger, steps, "cuda")
    return ledger, scratch
