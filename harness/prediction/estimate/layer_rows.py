"""One row for each layer of a network, in the order of the forward pass, and what it saved."""

from collections.abc import Collection

from torch import Tensor, nn

from harness.instruments.allocation_trace import storages_of
from harness.instruments.forward_hooks import own_tensors, tensor_bytes
from harness.instruments.saved_tensors import ROOT
from harness.schema.events import Trace, totals
from harness.schema.metrics import Layer, ModuleMetrics
from harness.training.nested_tensors import tensors


class LayerRows:
    """Notes what each module returned and saved in the latest forward pass."""

    def __init__(self) -> None:
        self.kept: set[int] = set()
        """Storages of parameters and buffers, which exist anyway."""
        self.inputs: set[int] = set()
        """Storages of the batch."""
        self._order: dict[str, None] = {}
        self._outputs: dict[str, int] = {}
        self._savers: dict[int, tuple[str, int]] = {}
        self._saved: dict[str, int] = {}
        self._saved_inputs = 0

    def begin_forward(self) -> None:
        """Forget what the forward pass before saved."""
        self._savers.clear()

    def enter(self, module: str) -> None:
        """Note that a module's forward pass begins."""
        self._order.setdefault(module)

    def returned(self, module: str, output: object) -> None:
        """Note a module's output."""
        self._outputs[module] = sum(map(tensor_bytes, tensors(output)))

    def saved(self, module: str, tensor: Tensor) -> None:
        """Note that ``module`` saved ``tensor``, unless it is a parameter or a buffer."""
        for storage in storages_of(tensor):
            if storage._cdata not in self.kept:
                self._savers.setdefault(storage._cdata, (module, storage.nbytes()))

    def end_forward(self, alive: Collection[int]) -> None:
        """Sum up what is still saved when the forward pass has ended."""
        held = {key: saver for key, saver in self._savers.items() if key in alive}
        self._saved = {}
        for module, size in held.values():
            self._saved[module] = self._saved.get(module, 0) + size
        self._saved_inputs = sum(size for key, (_, size) in held.items() if key in self.inputs)

    def saved_metrics(self) -> dict[str, object]:
        """Return the metrics of a record on what autograd keeps for the backward pass."""
        total = sum(self._saved.values())
        return {
            "saved_bytes": total,
            "saved_input_bytes": self._saved_inputs,
            "saved_activation_bytes": total - self._saved_inputs,
            "modules": {
                name or ROOT: ModuleMetrics(saved_bytes=size) for name, size in self._saved.items()
            },
        }

    def rows(self, model: nn.Module, trace: Trace) -> tuple[Layer, ...]:
        """Return the rows of ``model``, first the modules that ran, in order."""
        modules = dict(model.named_modules())
        at_peak: dict[str, int] = {}
        for module, size in totals(trace.alive_at_peak(), "module").items():
            name = module if module in modules else ""
            at_peak[name] = at_peak.get(name, 0) + size
        names = [n for n in self._order if n in modules]
        names += [n for n in modules if n not in self._order]
        return tuple(
            Layer(
                name=name,
                kind=type(modules[name]).__name__,
                parameter_bytes=sum(map(tensor_bytes, own_tensors(modules[name]))),
                output_bytes=self._outputs.get(name, 0),
                saved_bytes=self._saved.get(name, 0),
                peak_bytes=at_peak.get(name, 0),
            )
            for name in names
        )
