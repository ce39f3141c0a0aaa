"""Traces the memory of a user's own training step: ``with harness.trace(model) as trace:``.

The trace starts with the tensors that already exist: parameters, buffers, gradients, optimizer
state and inputs. Phases, steps and categories are inferred from the operators of autograd and the
optimizers, from the network's arguments, and from the tensors that autograd saves.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import torch
from torch import nn
from torch._C._autograd import _profiler_enabled
from torch.optim import Optimizer

from harness.instruments import tensor_roles
from harness.instruments.allocation_trace import AllocationRecorder
from harness.instruments.forward_hooks import Forward, own_tensors, wrapped_forwards
from harness.instruments.saved_tensors import SavedTensors, saved_metrics
from harness.instruments.tensor_roles import gradients, updated_by
from harness.schema.errors import HarnessError
from harness.schema.events import Trace, trace_metrics
from harness.schema.growth import LEAST_STEPS, Growth
from harness.schema.kept_by_line import find_growth
from harness.schema.lifetimes import find_lifetimes
from harness.schema.metrics import Metrics
from harness.schema.record import Outcome
from harness.schema.step_report import StepReport
from harness.training.nested_tensors import tensors

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

OLDER = (
    "tensors that existed before the trace and that neither the model, its optimizers nor "
    "its inputs hold are not counted"
)
STEPS = (
    "a step begins with the first forward pass after an optimizer's step (after a backward "
    "pass, where no optimizer stepped)"
)


class TracedDeviceError(HarnessError, ValueError):
    """The parameters are not all on one device that can be traced (cpu or cuda)."""


class NestedTraceError(HarnessError):
    """A trace was started inside another trace or inside a PyTorch profiler."""


class ModuleTrace:
    """The trace of one ``with harness.trace(...)`` block.

    After the ``with`` block, ``report`` is a ``StepReport`` and ``trace`` contains the events.
    ``peak_live_bytes`` and similar properties read the trace. ``notes`` lists the metrics' limits.

    >>> import torch, harness
    >>> model = torch.nn.Linear(8, 2)
    >>> with harness.trace(model) as traced:
    ...     model(torch.ones(4, 8)).sum().backward()
    >>> traced.metrics().saved_bytes, traced.trace.step_peak_bytes(1) == traced.peak_live_bytes
    (128, True)
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        inputs: object,
        recorder: AllocationRecorder,
    ) -> None:
        self._model = model
        self._optimizers = optimizers
        self._inputs = inputs
        self._recorder = recorder
        self._saved = SavedTensors(recorder.mark_saved, self._on_unpack)
        self._parameters = tensor_roles.parameter_addresses(model)
        self._input_addresses = tensor_roles.input_addresses(inputs)
        self._in_backward = False
        self.notes: list[str] = [OLDER, STEPS]

    @property
    def trace(self) -> Trace:
        """Every allocation event in the ``with`` block."""
        return self._recorder.trace

    @property
    def report(self) -> StepReport:
        """The report of the ``with`` block: metrics, notes and trace."""
        return StepReport(
            **msgspec.structs.asdict(self.metrics()),
            method="measured",
            outcome=Outcome.OK,
            target=type(self._model).__name__,
            torch=str(torch.__version__),
            notes=tuple(self.notes),
            trace=self.trace,
            growth=_growth(self.trace),
        )

    @property
    def peak_live_bytes(self) -> int:
        """Peak of live bytes in the last step."""
        return self.trace.peak_live_bytes

    @property
    def peak_phase(self) -> str:
        """Phase of the last step in which live bytes reach their peak."""
        return self.trace.peak_phase

    def categories_at_peak(self) -> dict[str, int]:
        """Return the live bytes at the peak by category."""
        return self.trace.categories_at_peak()

    def summary(self) -> str:
        """Return one line with the peak and its live bytes by category."""
        return self.trace.summary()

    def plot(self) -> "Figure":
        """Return a figure of the live bytes in the step; see ``Trace.plot``."""
        return self.trace.plot()

    def to_frame(self) -> "pd.DataFrame":
        """Return the events as a data frame; see ``Trace.to_frame``."""
        return self.trace.to_frame()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.trace.summary()}>"

    def _repr_html_(self) -> str:
        return self.report._repr_html_()

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Set the phase inside a ``with`` block; from then on, phases are no longer inferred.

        Args:
            name: "forward", "backward" or "optimizer".
        """
        return self._recorder.phase(name)

    def next_step(self) -> None:
        """Begin the next step; call this only if you set the phases with ``phase``."""
        self._recorder.next_step()

    def metrics(self) -> Metrics:
        """Return the metrics of the trace."""
        saved = saved_metrics(self._saved.most, self._parameters, self._input_addresses)
        return msgspec.convert(trace_metrics(self.trace) | saved, Metrics)

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Observe forward passes, saved tensors and optimizers inside a ``with`` block."""
        self._adopt()
        if "_c" in vars(self._model):  # torch.jit: its methods are not Python's
            self.notes.append("the model is scripted: its forward passes were not seen")
        with (
            tensor_roles.marked_steps(self._recorder) as stepped,
            self._saved.watch(),
            self._recorder.module_scopes(self._model, self._saved.modules),
            wrapped_forwards(self._model, self._around_root),
        ):
            yield
            self._mark_gradients()
            self._recorder.mark(tensor_roles.parameter_addresses(self._model))
            for optimizer in {id(one): one for one in (*self._optimizers, *stepped)}.values():
                self._recorder.mark(tensor_roles.state_addresses(optimizer))

    def _adopt(self) -> None:
        """Add the tensors that already exist to the start of the trace."""
        adopt = self._recorder.adopt
        for name, module in self._model.named_modules():
            own = own_tensors(module)
            adopt(own, "parameter", name)
            adopt(gradients(own), "gradient", name)
        for optimizer in self._optimizers:
            adopt(updated_by(optimizer), "parameter")
            adopt(gradients(updated_by(optimizer)), "gradient")
            adopt(tensors(optimizer.state), "optimizer_state")
        adopt(tensors(self._inputs), "input")
        adopt(gradients(x for x in tensors(self._inputs) if x.is_leaf), "gradient")

    def _around_root(self, name: str, forward: Forward) -> Forward | None:
        """Return a replacement for the network's ``forward``; None if ``name`` is a submodule."""
        if name:
            return None

        def run(*args: Any, **kwargs: Any) -> Any:
            if len(self._saved.modules) == 1:  # the network does not call itself
                self._enter(args, kwargs)
            try:
                return forward(*args, **kwargs)
            finally:
                if not torch.is_grad_enabled():
                    self._saved.keep_most()

        return run

    def _enter(self, args: object, kwargs: object) -> None:
        """Record the arguments as inputs; record the gradients before anything can free them."""
        self._mark_gradients()
        if not self._in_backward:
            given = list(tensors([args, kwargs]))
            self._input_addresses |= tensor_roles.input_addresses(given)
            self._recorder.adopt(given, "input")

    def _on_unpack(self) -> None:
        """Record the saved bytes when a backward pass reads its first saved tensor."""
        if self._in_backward:
            return
        self._in_backward = True
        self._saved.keep_most()
        try:
            torch.autograd.Variable._execution_engine.queue_callback(self._after_backward)
        except RuntimeError:  # somebody looked at a saved tensor outside a backward pass
            self._in_backward = False

    def _after_backward(self) -> None:
        self._in_backward = False
        self._mark_gradients()

    def _mark_gradients(self) -> None:
        self._recorder.mark(tensor_roles.gradient_addresses(self._model))


@contextmanager
def trace(
    model: nn.Module,
    *,
    optimizer: Optimizer | Iterable[Optimizer] | None = None,
    inputs: object = (),
    device: str | None = None,
    operators: bool = True,
) -> Iterator[ModuleTrace]:
    """Trace every allocation of your own training step, in this process.

    Put this context manager around the forward pass, the backward pass and the optimizer step. The
    trace is complete when the ``with`` block ends, even if it ends with an exception. Traces cannot
    be nested or combined with another PyTorch profiler.

    Args:
        model: the network; the trace includes its existing parameters, buffers and gradients.
        optimizer: one or more optimizers whose existing state the trace includes. Any other
            optimizer is included after its first step inside the ``with`` block.
        inputs: input tensors that exist before the ``with`` block, in any containers. The arguments
            of the network are always recorded as inputs.
        device: type of the traced device, "cpu" or "cuda"; by default the parameters' device.
        operators: if True, each event contains the name of its operator. Without names, tracing
            takes about a third of the time that it takes with names.

    Yields:
        The trace; all sizes are in bytes.

    >>> import torch, harness
    >>> model = torch.nn.Linear(8, 2)
    >>> with harness.trace(model) as traced:
    ...     model(torch.ones(4, 8)).sum().backward()
    >>> traced.peak_phase, traced.categories_at_peak()["parameter"]
    ('backward', 72)
    """
    if _profiler_enabled():
        raise NestedTraceError("a trace or a PyTorch profiler is running already; end it first")
    recorder = AllocationRecorder(device or _device_of(model), operators=operators, infer=True)
    optimizers = [optimizer] if isinstance(optimizer, Optimizer) else [*(optimizer or ())]
    with recorder:
        result = ModuleTrace(model, optimizers, inputs, recorder)
        with result._watching():
            yield result


def _device_of(model: nn.Module) -> str:
    """Return the device type of the network's parameters."""
    kinds = sorted({each.device.type for each in model.parameters()} - {"meta"})
    if len(kinds) > 1 or not {"cpu", "cuda"}.issuperset(kinds):
        found = " and ".join(kinds)
        raise TracedDeviceError(f"device must be cpu or cuda; the parameters are on {found}")
    return kinds[0] if kinds else "cpu"


def _growth(trace: Trace) -> Growth | None:
    """Return the memory that accumulates from step to step, by module and operator."""
    if trace.measured_step < LEAST_STEPS:
        return None
    events, last = trace.events, trace.measured_step
    lifetimes = find_lifetimes(
        ("alloc" if event.size_bytes > 0 else "free_requested", event.address) for event in events
    )

    def place_of(order: int) -> str:
        event = events[order]
        operator = event.operator.rpartition("/")[2] or event.phase
        return f"{event.module or 'outside of the modules'}: {operator}"

    steps = [event.step for event in events]
    ends = [bisect_right(steps, step) for step in range(1, last + 1)]
    return find_growth(lifetimes, [event.size_bytes for event in events], ends, place_of)
