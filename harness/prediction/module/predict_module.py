"""The trace of a module's step at any batch size, without allocating its tensors.

The step runs on fake tensors: they have shapes, types and storages, but no memory. A
dispatch mode sees each operator's results; a storage seen for the first time is a block
taken, and its end, told by a weak reference, is the block returned. Time is linear in the
number of operators.

Source: torch/_subclasses/fake_tensor.py; torch/utils/_python_dispatch.py.
"""

import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from harness.instruments import tensor_roles
from harness.instruments.forward_hooks import Forward, wrapped_forwards
from harness.prediction.gpu import catalogue, workspaces
from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.gpu.recorded_script import RecordedSteps
from harness.prediction.gpu.simulation import play
from harness.prediction.mlp import cuda_metrics as cuda_forecast
from harness.prediction.module.cuda_rules import Below, cuda_functions, lies_on_host
from harness.schema.errors import HarnessError
from harness.schema.events import Event, Trace
from harness.schema.prediction import GpuFit
from harness.schema.record import CudaMetrics
from harness.training.module_step import Step, make_optimizer, run_step
from harness.training.nested_tensors import tensors

BELOW = (
    "what a kernel takes below the dispatcher and returns before it ends (scratch of "
    "convolutions and normalisations, of bfloat16 products) is not seen"
)
SUMS = (
    "where a tensor is used twice the engine may add its two gradients in place; here the "
    "sum is always a new block"
)
INITIALISER = "the building read a number from a tensor; 0 was answered"
CPU = "figures are those of the CPU's operators"
BELOW_CUDA = (
    "of what CUDA's kernels take below the dispatcher, workspaces, sums of columns and "
    "normalisation are counted; sorts, scans, other reductions and attention's backward are not"
)


class ForecastError(HarnessError):
    """The step cannot be followed on fake tensors; the message says at which operator."""


@dataclass(kw_only=True)
class ModuleForecast:
    """What a step would take: its trace, and what could not be followed."""

    trace: Trace
    notes: list[str] = field(default_factory=list)
    cuda: CudaMetrics | None = None
    """The caching allocator's peaks, where the device is a GPU."""
    card: GpuFit | None = None
    """The verdict on a card, where one was named."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "trace":
            raise AttributeError(name)
        return getattr(self.trace, name)


class _OneMode(FakeTensorMode):  # type: ignore[no-untyped-call]
    """A fake mode that copies of its tensors share, as those of a copied layer."""

    def __deepcopy__(self, memo: object) -> "_OneMode":
        return self


class _Block:
    """A storage that was seen: what took it, its category still open."""

    __slots__ = ("category", "module", "number", "operator", "reference", "size")

    def __init__(self, number: int, size: int, operator: str, module: str) -> None:
        self.number = number
        self.size = size
        self.operator = operator
        self.module = module
        self.category = "temporary"
        self.reference: weakref.ref[Any] | None = None


class _Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down each storage's beginning and end."""

    def __init__(self, below: Below | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._below = below
        self.step = 0
        self.phase = "build"
        self.modules = [""]
        self.notes: list[str] = []
        self._alive: dict[int, _Block] = {}
        self._elsewhere: dict[int, torch.UntypedStorage] = {}
        """Storages of the host's memory, held so that no other gets their number."""
        self._rows: list[tuple[int, str, int, _Block]] = []
        self._count = 0
        self._open = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.phase == "build" and func is torch.ops.aten._local_scalar_dense.default:
            # An initialiser asks whether to draw again: no. No size depends on it.
            self.notes.append(INITIALISER)
            return 0
        result = func(*args, **(kwargs or {}))
        for tensor in (result,) if isinstance(result, Tensor) else tensors(result):
            self.see(tensor, func.name())
        if self._below is not None:
            self._see_below(self._below, func.name(), args, result)
        return result

    def _see_below(self, below: Below, operator: str, args: Any, result: Any) -> None:
        """Write down what a kernel of CUDA's keeps, and what it takes beside its result."""
        kept = below.to_keep(operator, self.phase)
        if kept:
            self._write(kept, operator)
        blocks = [self._write(size, operator) for size in below.scratch(operator, args, result)]
        for block in reversed(blocks):
            self._rows.append((self.step, self.phase, -block.size, block))

    def see(self, tensor: Tensor, operator: str) -> None:
        """Write down the tensor's storages, where they are new or of a new size."""
        elsewhere = self._below is not None and lies_on_host(tensor, operator, self.phase)
        for storage in tensor_roles.storages(tensor):
            key, size = storage._cdata, storage.nbytes()
            if elsewhere or key in self._elsewhere:
                self._elsewhere.setdefault(key, storage)
                continue
            known = self._alive.get(key)
            if known is not None and known.size == size:
                continue
            if known is not None:
                self._end(key, known)
            if size:
                self._take(key, storage, size, operator)

    def _take(self, key: int, storage: torch.UntypedStorage, size: int, operator: str) -> None:
        block = self._write(size, operator)

        def gone(_: object) -> None:
            if self._open and self._alive.get(key) is block:
                self._end(key, block)

        block.reference = weakref.ref(storage, gone)
        self._alive[key] = block

    def _write(self, size: int, operator: str) -> _Block:
        self._count += 1
        block = _Block(self._count, size, operator, self.modules[-1])
        self._rows.append((self.step, self.phase, size, block))
        return block

    def _end(self, key: int, block: _Block) -> None:
        del self._alive[key]
        self._rows.append((self.step, self.phase, -block.size, block))

    def mark(self, tensors: Iterable[Tensor], category: str) -> None:
        """State what the tensors are; the first statement holds."""
        for tensor in tensors:
            for storage in tensor_roles.storages(tensor):
                block = self._alive.get(storage._cdata)
                if block is not None and block.category == "temporary":
                    block.category = category

    @contextmanager
    def announce(self, phase: str) -> Iterator[None]:
        """Write what follows under ``phase``."""
        self.phase = phase
        yield

    def named(self, name: str, forward: Forward) -> Forward:
        """Stand in for a module's forward."""

        def run(*args: Any, **kwargs: Any) -> Any:
            self.modules.append(name)
            try:
                return forward(*args, **kwargs)
            finally:
                self.modules.pop()

        return run

    def pack(self, tensor: Tensor) -> "tuple[Tensor, str]":
        """Mark what autograd saves; keep the module's name for the backward pass."""
        self.mark([tensor], "activation")
        return tensor.detach(), self.modules[-1]

    def unpack(self, packed: "tuple[Tensor, str]") -> Tensor:
        """Give back what autograd saved; its module is the one whose backward runs."""
        tensor, module = packed
        if self.phase == "backward" and len(self.modules) == 1:
            self.modules[0] = module
        return tensor

    def close(self) -> None:
        """Write no more: what ends from here on ends with the forecast."""
        self._open = False

    def trace(self) -> Trace:
        """Return what was written down."""
        events = [
            Event(step, phase, b.operator, b.module, b.category, size, b.number)
            for step, phase, size, b in self._rows
        ]
        return Trace(events, steps=self.step)


def forecast(
    build: Callable[[], nn.Module],
    batch: int,
    *,
    input_shape: tuple[int, ...] | None = None,
    inputs: Callable[[int], tuple[Tensor, Tensor | None]] | None = None,
    optimizer: str | Callable[[Iterable[Tensor]], torch.optim.Optimizer] = "sgd",
    loss: str | Callable[[Any, Any], Tensor] = "cross-entropy",
    mode: str = "train",
    steps: int | None = None,
    device: str = "cpu",
    gpu: Gpu | str | None = None,
    allocator_settings: str = "",
    cudnn: bool = True,
) -> ModuleForecast:
    """Return the trace of ``build()`` and ``steps`` of its steps, without allocating.

    Args:
        build: returns the network; called where every new tensor is a fake one.
        batch: examples in a step.
        input_shape: shape of one example, for float32 inputs and int64 labels (batch,).
        inputs: or a function of the batch size that makes example and label tensors.
        optimizer: a name of ``harness profile``'s, or a function of the parameters.
        loss: a name of ``harness profile``'s, or a function of output and labels.
        mode: ``train`` or ``inference`` (one forward pass without gradients).
        steps: steps traced, the last the measured one; as many as there are kinds of where
            not given: the first and a later one, on CUDA one more to see that it is steady.
        device: ``cuda`` for the steps as CUDA runs them, without CUDA; see
            ``harness.prediction.module.cuda_rules`` for what differs.
        gpu: a card, or its name in ``harness.prediction.gpu.catalogue``, to fit on.
        allocator_settings: as in PYTORCH_ALLOC_CONF.
        cudnn: whether convolutions are cuDNN's (or PyTorch's own kernels).

    Raises:
        ForecastError: an operator's result depends on data, or it knows no fake tensors.
        GpuError: no such card.
        AllocatorConfigError: settings that PyTorch would refuse, or that are not modelled.

    """
    on_cuda = device == "cuda"
    used = (
        catalogue.find(gpu) if isinstance(gpu, str) else gpu or catalogue.DEFAULT
    ).in_environment()
    below = Below(used, cudnn=cudnn) if on_cuda else None
    ledger = _Ledger(below)
    count = steps if steps is not None else (1 + on_cuda) if mode != "train" else 2 + on_cuda
    try:
        with _OneMode(), ledger, warnings.catch_warnings():
            # Copying a fake module, as nn.TransformerEncoder does, makes torch warn of itself.
            warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")
            with ExitStack() as stack:
                if on_cuda:
                    stack.enter_context(cuda_functions())
                _run(ledger, build, batch, input_shape, inputs, optimizer, loss, mode, count)
    except (DataDependentOutputException, NotImplementedError) as error:
        raise ForecastError(f"not followed on fake tensors: {str(error)[:300]}") from error
    notes = [SUMS, *dict.fromkeys(ledger.notes)]
    if below is None:
        return ModuleForecast(trace=ledger.trace(), notes=[CPU, BELOW, *notes])
    return _on_cuda(ledger.trace(), below, notes, used, allocator_settings, named=gpu is not None)


def _on_cuda(
    trace: Trace, below: Below, notes: list[str], gpu: Gpu, settings: str, *, named: bool
) -> ModuleForecast:
    """Return the forecast with the allocator's peaks, and the verdict on a named card."""
    script = RecordedSteps(trace, below.kept_bytes)
    found = cuda_forecast.figures(script, gpu, settings)
    card = cuda_forecast.card_of(gpu, settings) if named else None
    return ModuleForecast(
        trace=trace,
        notes=[
            BELOW_CUDA,
            *workspaces.told(gpu.capability, gpu.workspace_config),
            *notes,
            *sorted(below.notes),
            *found.notes,
        ],
        cuda=found.cuda,
        card=None if card is None else cuda_forecast.on_card(card, found, (partial(play, script),)),
    )


def _run(
    ledger: _Ledger,
    build: Callable[[], nn.Module],
    batch: int,
    input_shape: tuple[int, ...] | None,
    inputs: Callable[[int], tuple[Tensor, Tensor | None]] | None,
    optimizer: str | Callable[[Iterable[Tensor]], torch.optim.Optimizer],
    loss: str | Callable[[Any, Any], Tensor],
    mode: str,
    steps: int,
) -> None:
    model = build()
    _mark_parameters(ledger, model)
    if inputs is None:
        if input_shape is None:
            raise ForecastError("input_shape: None: give it, or inputs")
        x = torch.empty(batch, *input_shape)
        y = torch.empty(batch, dtype=torch.int64) if mode == "train" else None
    else:
        x, y = inputs(batch)
    ledger.mark(tensors([x, y]), "input")
    model.train(mode == "train")
    trained = [p for p in model.parameters() if p.requires_grad]
    made = make_optimizer(optimizer, trained) if mode == "train" else None
    step = Step(model=model, x=x, y=y, optimizer=made, loss=loss, mode=mode)
    with ExitStack() as stack:
        stack.enter_context(wrapped_forwards(model, ledger.named))
        hooks = torch.autograd.graph.saved_tensors_hooks(ledger.pack, ledger.unpack)
        stack.enter_context(hooks)
        for _ in range(steps):
            ledger.step += 1
            ledger.modules[0] = ""
            run_step(step, ledger.announce)
            ledger.mark([p.grad for p in trained if p.grad is not None], "gradient")
            if made is not None:
                ledger.mark(tensors(made.state), "optimizer_state")
    ledger.close()


def _mark_parameters(ledger: _Ledger, model: nn.Module) -> None:
    for tensor in [*model.parameters(), *model.buffers()]:
        ledger.see(tensor, "built")
        ledger.mark([tensor], "parameter")
