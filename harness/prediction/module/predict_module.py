"""The memory of a module's training step, without running it.

On the CPU the step runs on fake tensors. For CUDA it runs on a GPU made of meta tensors
(``simulated_gpu``), and the allocator model plays its events. Both see the same dispatcher,
autograd engine and optimizers that a real step uses.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.utils._pytree import tree_map_only

from harness.instruments.forward_hooks import wrapped_forwards
from harness.prediction.gpu import catalogue, workspaces
from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.gpu.recorded_script import RecordedSteps
from harness.prediction.gpu.simulation import play
from harness.prediction.mlp import cuda_metrics
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
from harness.schema.module_request import MODES
from harness.training.module_step import Loss, Step, make_optimizer, run_step
from harness.training.nested_tensors import tensors

Inputs = Callable[[int], tuple[Any, Any]]
OptimizerMaker = Callable[[Iterable[Tensor]], torch.optim.Optimizer]
AnyLedger = CpuLedger | Ledger

CPU = "the metrics are those of the CPU's operators"
BELOW = (
    "what a CPU kernel allocates below the dispatcher and frees before it ends (scratch of "
    "convolutions and normalisations, of bfloat16 matmuls) is not counted"
)
SUMS = (
    "where a tensor is used twice, autograd may add its two gradients in place; here the sum is "
    "always a new block"
)
RECURRENT = (
    "recurrent layers: the CPU's oneDNN kernels keep a workspace that is not counted, so the "
    "peak is a lower bound"
)
CUDNN_RECURRENT = (
    "recurrent layers: PyTorch's own kernels are counted; the reserve that cuDNN's keep instead is "
    "not known"
)
RULES = (
    "allocations inside CUDA kernels are counted for matmuls, convolutions without cuDNN, "
    "normalisation, softmax, attention, sums, losses and embeddings; those of sorts, scans and "
    "other kernels are not"
)
STEPS_ON_GPU = 3
"""The first step, a later one, and one more to see that it is steady."""


def forecast(
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
        allocator_settings: as in PYTORCH_ALLOC_CONF.
        cudnn: whether convolutions are cuDNN's, whose workspaces are not counted, or PyTorch's.

    Raises:
        ModulePredictionError: an argument is wrong.
        UnsupportedModuleError: an operator's result depends on data, or it has no meta kernel.
        GpuError: no such GPU.
        AllocatorConfigError: settings that PyTorch would refuse, or that are not modelled.

    """
    asked = ModuleStep(
        build=build,
        batch=batch,
        input_shape=input_shape,
        inputs=inputs,
        optimizer=optimizer,
        loss=loss,
        mode=mode,
        autocast=autocast,
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
        ModulePredictionError: it is neither the CPU nor the first CUDA device.

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


class ModuleStep:
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
    ) -> None:
        self.build = _checked_build(build)
        self.batch = _checked_batch(batch)
        self.inputs = _checked_inputs(inputs, input_shape, mode)
        self.optimizer = optimizer
        self.loss = loss
        self.mode = _checked_mode(mode)
        self.autocast = _checked_autocast(autocast)
        self.model: nn.Module | None = None

    def run(self, ledger: AnyLedger, steps: int, device: str) -> None:
        """Build the network, move it to ``device`` and run its steps under ``ledger``."""
        built: Any = self.build()
        if not isinstance(built, nn.Module):
            kind = type(built).__name__
            raise ModulePredictionError(f"build must return a torch.nn.Module, got a {kind}")
        self.model = model = built.to(device) if device != "cpu" else built
        owners = _owners(model)
        for tensor in [*model.parameters(), *model.buffers()]:
            ledger.see(tensor, "built")
            ledger.mark([tensor], "parameter", owners[id(tensor)])
        x, y = self._example(device)
        ledger.mark(tensors([x, y]), "input")
        model.train(self.mode == "train")
        trained = [p for p in model.parameters() if p.requires_grad]
        made = make_optimizer(self.optimizer, trained) if self.mode == "train" else None
        step = Step(
            model=model,
            x=x,
            y=y,
            optimizer=made,
            loss=self.loss,
            mode=self.mode,
            autocast=self.autocast,
            device_type=device,
        )
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

    def _example(self, device: str) -> tuple[Any, Any]:
        made: Any = self.inputs(self.batch)
        if not isinstance(made, tuple) or len(made) != 2:
            kind = type(made).__name__
            raise ModulePredictionError(f"inputs must return (input, labels), got a {kind}")
        if device == "cpu":
            return made
        moved = tree_map_only(Tensor, lambda tensor: tensor.to(device), made)
        return moved[0], moved[1]


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


def _checked_batch(batch: object) -> int:
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise ModulePredictionError(f"batch must be a whole number of at least 1, got {batch!r}")
    return batch


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
        raise ModulePredictionError(f"inputs must be a function of the batch, got a {kind}")
    if shape is None:
        raise ModulePredictionError("give input_shape, or inputs as a function of the batch")

    def example(batch: int) -> tuple[Tensor, Tensor | None]:
        labels = torch.empty(batch, dtype=torch.int64) if mode == "train" else None
        return torch.empty(batch, *shape), labels

    return example


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what an operator cannot do without data into an ``UnsupportedModuleError``."""
    try:
        yield
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        reason = "its result depends on the values of a tensor"
        raise UnsupportedModuleError(f"unsupported: {error.func}: {reason}") from error
    except NotImplementedError as error:
        text = str(error).split(". ")[0][:300]
        raise UnsupportedModuleError(f"unsupported: {text}") from error
    except RuntimeError as error:
        text = " ".join(str(error).split())[:300]
        if "meta" not in text.lower() and "fake" not in text.lower():
            raise
        reason = text.replace("meta tensors", "tensors without values")
        raise UnsupportedModuleError(f"unsupported: {reason}") from error


def _on_cpu(asked: ModuleStep, steps: int | None) -> ModulePrediction:
    ledger = CpuLedger()
    count = steps if steps is not None else 1 if asked.mode != "train" else 2
    with refusals(), CopiedFakeMode(), ledger, warnings.catch_warnings():
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
            *[RECURRENT] * _is_recurrent(asked.model),
            SUMS,
            *dict.fromkeys(ledger.notes),
        ],
    )


def _is_recurrent(model: nn.Module | None) -> bool:
    return model is not None and any(isinstance(m, nn.RNNBase) for m in model.modules())


def _on_gpu(
    asked: ModuleStep, steps: int, gpu: Gpu, settings: str, cudnn: bool, named: bool
) -> ModulePrediction:
    ledger, scratch = run_on_gpu(asked, steps, gpu, cudnn=cudnn)
    trace = ledger.trace()
    script = RecordedSteps(trace, ledger.workspace_bytes)
    found = cuda_metrics.figures(script, gpu, settings)
    card = cuda_metrics.card_of(gpu, settings) if named else None
    return ModulePrediction(
        trace=trace,
        way="simulated GPU",
        notes=[
            RULES,
            *workspaces.told(gpu.capability, gpu.workspace_config),
            *ledger.notes,
            *scratch.notes,
            *[CUDNN_RECURRENT] * (cudnn and _is_recurrent(asked.model)),
            *found.notes,
        ],
        layers=() if asked.model is None else ledger.layers.table(asked.model, trace),
        saved_bytes=ledger.layers.saved_bytes if asked.mode == "train" else None,
        cuda=found.cuda,
        card=None if card is None else cuda_metrics.on_card(card, found, (partial(play, script),)),
    )


def run_on_gpu(
    asked: ModuleStep, steps: int, gpu: Gpu, *, cudnn: bool
) -> tuple[Ledger, KernelScratch]:
    """Run the steps on the simulated ``gpu``; return what was written down, and the rules."""
    scratch = KernelScratch(gpu, cudnn=cudnn)
    ledger = Ledger(scratch)
    ledger.calibrate()
    with (
        refusals(),
        simulated_gpu(ledger, gpu, gpu_functions(ledger, scratch)),
        simulated_autocast(),
    ):
        asked.run(ledger, steps, "cuda")
    return ledger, scratch
