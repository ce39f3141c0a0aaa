"""``with harness.trace(model) as trace:`` around anybody's own forward, backward and step.

What exists when the block begins (parameters, buffers, gradients, optimizer state, inputs)
opens the trace as blocks of their own, so that sums over it are absolute. Phases, steps and
categories follow from facts: the engine's and the optimizers' own operators, the arguments
of the network, what autograd saves.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from harness.instruments import tensor_roles
from harness.instruments.allocation_trace import AllocationRecorder
from harness.instruments.forward_hooks import Forward
from harness.instruments.saved_tensors import Saved, SavedTensors, saved_metrics
from harness.schema.events import Trace, trace_metrics
from harness.training.nested_tensors import tensors

OLDER = (
    "tensors that existed before the trace and that neither the model, its optimizers nor "
    "its inputs hold are not counted"
)
STEPS = (
    "a step begins with the first forward pass after an optimizer's step (after a backward "
    "pass, where no optimizer stepped)"
)


class ModuleTrace:
    """The trace of one ``with harness.trace(...)`` block.

    Once the block has ended, ``trace`` is the ``Trace``; its attributes and methods
    (``peak_live_bytes``, ``alive_at_peak()``, ``categories_at_peak()``, ``as_csv()``, ...)
    are this object's too. ``notes`` says what the reader must know.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        inputs: object,
        recorder: AllocationRecorder,
    ) -> None:
        self._model = model
        self._optimizers: dict[int, Optimizer] = {id(one): one for one in optimizers}
        self._inputs = inputs
        self._recorder = recorder
        self._saved = SavedTensors(recorder.mark_saved, self._on_unpack)
        self._parameters = tensor_roles.parameter_addresses(model)
        self._input_addresses = tensor_roles.input_addresses(inputs)
        self._in_backward = False
        self._depth = 0
        self._held: list[Saved] = []
        self.notes: list[str] = [OLDER, STEPS]

    @property
    def trace(self) -> Trace:
        """What was recorded."""
        return self._recorder.trace

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.trace, name)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Announce a phase; from the first one on, none is inferred."""
        with self._recorder.phase(name):
            yield

    def next_step(self) -> None:
        """Announce a step, where phases are announced."""
        self._recorder.next_step()

    def figures(self) -> dict[str, Any]:
        """Return the figures of a record that this trace gives, by a record's names."""
        saved = saved_metrics(self._held, self._parameters, self._input_addresses)
        return trace_metrics(self.trace) | saved

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Watch forward passes, saved tensors and optimizers while the context lasts."""
        self._adopt()
        with ExitStack() as stack:
            for register, hook in (
                (register_optimizer_step_pre_hook, self._before_step),
                (register_optimizer_step_post_hook, self._after_step),
            ):
                stack.callback(register(hook).remove)
            stack.enter_context(self._saved.watch())
            scopes = self._recorder.module_scopes(self._model, self._saved.modules)
            stack.enter_context(scopes)
            stack.enter_context(self._watching_root())
            yield
            self._mark_gradients()
            self._recorder.mark(tensor_roles.parameter_addresses(self._model))
            for optimizer in self._optimizers.values():
                self._recorder.mark(tensor_roles.state_addresses(optimizer))

    def _adopt(self) -> None:
        """Open the trace with what exists."""
        adopt = self._recorder.adopt
        for name, module in self._model.named_modules():
            own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
            adopt(own, "parameter", name)
            adopt([p.grad for p in own if p.grad is not None], "gradient", name)
        for optimizer in self._optimizers.values():
            adopt(_grouped(optimizer), "parameter")
            adopt([p.grad for p in _grouped(optimizer) if p.grad is not None], "gradient")
            adopt(tensors(optimizer.state), "optimizer_state")
        adopt(tensors(self._inputs), "input")

    @contextmanager
    def _watching_root(self) -> Iterator[None]:
        """Take the network's arguments for inputs, and mark gradients before they may go."""
        own = vars(self._model)
        forward: Forward | None = own.get("forward")
        if forward is None:
            self.notes.append("the model is scripted: its forward passes were not seen")
            yield
            return

        def run(*args: Any, **kwargs: Any) -> Any:
            if self._depth == 0:
                self._enter(args, kwargs)
            self._depth += 1
            try:
                return forward(*args, **kwargs)
            finally:
                self._depth -= 1
                if not torch.is_grad_enabled():
                    self._keep_most()

        own["forward"] = run
        try:
            yield
        finally:
            own["forward"] = forward

    def _enter(self, args: object, kwargs: object) -> None:
        self._mark_gradients()
        if not self._in_backward:
            given = list(tensors([args, kwargs]))
            self._input_addresses |= tensor_roles.input_addresses(given)
            self._recorder.adopt(given, "input")

    def _on_unpack(self) -> None:
        """At the first saved tensor of a backward pass: note what is held, await its end."""
        if self._in_backward:
            return
        self._in_backward = True
        self._keep_most()
        try:
            torch.autograd.Variable._execution_engine.queue_callback(self._after_backward)
        except RuntimeError:  # somebody looked at a saved tensor outside a backward pass
            self._in_backward = False

    def _after_backward(self) -> None:
        self._in_backward = False
        self._mark_gradients()

    def _keep_most(self) -> None:
        held = self._saved.held()
        self._held = max(self._held, held, key=lambda saved: sum(s.size_bytes for s in saved))

    def _mark_gradients(self) -> None:
        self._recorder.mark(tensor_roles.gradient_addresses(self._model))

    def _before_step(self, optimizer: Optimizer, *_: object) -> None:
        self._recorder.accumulates = True
        self._optimizers.setdefault(id(optimizer), optimizer)
        held = [p.grad for p in _grouped(optimizer) if p.grad is not None]
        self._recorder.mark(tensor_roles.addresses(held, "gradient"))

    def _after_step(self, optimizer: Optimizer, *_: object) -> None:
        self._recorder.mark(tensor_roles.state_addresses(optimizer))


def _grouped(optimizer: Optimizer) -> list[torch.Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


@contextmanager
def trace(
    model: nn.Module,
    *,
    optimizer: Optimizer | Iterable[Optimizer] | None = None,
    inputs: object = (),
    device: str = "cpu",
    operators: bool = True,
) -> Iterator[ModuleTrace]:
    """Trace every block that a step of ``model`` takes and returns, in this process.

    Args:
        model: the network; it may exist already, and have gradients.
        optimizer: the optimizer, or several; its state before the block counts. Others
            that step inside the block are noticed.
        inputs: tensors, in any containers, that exist before the block and count as input;
            what is handed to the network counts as input by itself.
        device: type of the device whose allocator is traced.
        operators: whether events name the operators inside; without, a third of the cost.

    The trace is there when the block has ended, also where it ended in an exception. Not
    reentrant, and not together with another PyTorch profiler.

    """
    recorder = AllocationRecorder(device, operators=operators, infer=True)
    optimizers = [optimizer] if isinstance(optimizer, Optimizer) else [*(optimizer or ())]
    with recorder:
        result = ModuleTrace(model, optimizers, inputs, recorder)
        with result._watching():
            yield result
