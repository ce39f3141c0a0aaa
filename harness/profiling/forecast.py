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
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from harness import tracing
from harness.errors import HarnessError
from harness.events import Event, Trace
from harness.instruments.forwards import Forward, wrapped_forwards
from harness.profiling.step import Step, make_optimizer, run_step

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


class ForecastError(HarnessError):
    """The step cannot be followed on fake tensors; the message says at which operator."""


@dataclass(kw_only=True)
class ModuleForecast:
    """What a step would take: its trace, and what could not be followed."""

    trace: Trace
    notes: list[str] = field(default_factory=list)

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

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.step = 0
        self.phase = "build"
        self.modules = [""]
        self.notes: list[str] = []
        self._alive: dict[int, _Block] = {}
        self._rows: list[tuple[int, str, int, _Block]] = []
        self._count = 0
        self._open = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.phase == "build" and func is torch.ops.aten._local_scalar_dense.default:
            # An initialiser asks whether to draw again: no. No size depends on it.
            self.notes.append(INITIALISER)
            return 0
        result = func(*args, **(kwargs or {}))
        for tensor in (result,) if isinstance(result, Tensor) else tracing.tensors(result):
            self.see(tensor, func.name())
        return result

    def see(self, tensor: Tensor, operator: str) -> None:
        """Write down the tensor's storages, where they are new or of a new size."""
        for storage in tracing.storages(tensor):
            key, size = storage._cdata, storage.nbytes()
            known = self._alive.get(key)
            if known is not None and known.size == size:
                continue
            if known is not None:
                self._end(key, known)
            if size:
                self._take(key, storage, size, operator)

    def _take(self, key: int, storage: torch.UntypedStorage, size: int, operator: str) -> None:
        self._count += 1
        block = _Block(self._count, size, operator, self.modules[-1])

        def gone(_: object) -> None:
            if self._open and self._alive.get(key) is block:
                self._end(key, block)

        block.reference = weakref.ref(storage, gone)
        self._alive[key] = block
        self._rows.append((self.step, self.phase, size, block))

    def _end(self, key: int, block: _Block) -> None:
        del self._alive[key]
        self._rows.append((self.step, self.phase, -block.size, block))

    def mark(self, tensors: Iterable[Tensor], category: str) -> None:
        """State what the tensors are; the first statement holds."""
        for tensor in tensors:
            for storage in tracing.storages(tensor):
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
    steps: int = 2,
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
        steps: training steps; the last is the measured one.

    Raises:
        ForecastError: an operator's result depends on data, or it knows no fake tensors.

    """
    ledger = _Ledger()
    try:
        with _OneMode(), ledger, warnings.catch_warnings():
            # Copying a fake module, as nn.TransformerEncoder does, makes torch warn of itself.
            warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")
            _run(ledger, build, batch, input_shape, inputs, optimizer, loss, mode, steps)
    except (DataDependentOutputException, NotImplementedError) as error:
        raise ForecastError(f"not followed on fake tensors: {str(error)[:300]}") from error
    return ModuleForecast(
        trace=ledger.trace(), notes=[CPU, BELOW, SUMS, *dict.fromkeys(ledger.notes)]
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
    ledger.mark(tracing.tensors([x, y]), "input")
    model.train(mode == "train")
    trained = [p for p in model.parameters() if p.requires_grad]
    made = make_optimizer(optimizer, trained) if mode == "train" else None
    step = Step(model=model, x=x, y=y, optimizer=made, loss=loss, mode=mode)
    with ExitStack() as stack:
        stack.enter_context(wrapped_forwards(model, ledger.named))
        hooks = torch.autograd.graph.saved_tensors_hooks(ledger.pack, ledger.unpack)
        stack.enter_context(hooks)
        for _ in range(steps if mode == "train" else 1):
            ledger.step += 1
            ledger.modules[0] = ""
            run_step(step, ledger.announce)
            ledger.mark([p.grad for p in trained if p.grad is not None], "gradient")
            if made is not None:
                ledger.mark(tracing.tensors(made.state), "optimizer_state")
    ledger.close()


def _mark_parameters(ledger: _Ledger, model: nn.Module) -> None:
    for tensor in [*model.parameters(), *model.buffers()]:
        ledger.see(tensor, "built")
        ledger.mark([tensor], "parameter")
