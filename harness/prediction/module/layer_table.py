"""One row for each layer of a network, in the order of the forward pass."""

from collections.abc import Iterable

from torch import Tensor, nn

from harness.instruments.tensor_roles import storages
from harness.schema.events import Trace
from harness.schema.layer import Layer
from harness.training.nested_tensors import tensors


class LayerLog:
    """Notes what each module returned and saved in the latest step."""

    def __init__(self) -> None:
        self._order: dict[str, None] = {}
        self._outputs: dict[str, int] = {}
        self._savers: dict[int, tuple[str, int]] = {}
        self._saved: dict[str, int] = {}

    def begin_step(self) -> None:
        """Forget what the step before saved."""
        self._savers.clear()

    def enter(self, module: str) -> None:
        """Note that a module's forward pass begins."""
        self._order.setdefault(module)

    def returned(self, module: str, output: object) -> None:
        """Note a module's output."""
        self._outputs[module] = sum(_bytes(t) for t in tensors(output))

    def saved(self, module: str, tensor: Tensor, kept: Iterable[int]) -> None:
        """Note that ``module`` saved ``tensor``, unless its storage is among ``kept``."""
        for storage in storages(tensor):
            if storage._cdata not in kept:
                self._savers.setdefault(storage._cdata, (module, storage.nbytes()))

    def end_forward(self, alive: Iterable[int]) -> None:
        """Sum up what is still saved when the forward pass has ended."""
        self._saved.clear()
        known = set(alive)
        for key, (module, size) in self._savers.items():
            if key in known:
                self._saved[module] = self._saved.get(module, 0) + size

    @property
    def saved_bytes(self) -> int:
        """Bytes saved for the backward pass, all modules together."""
        return sum(self._saved.values())

    def table(self, model: nn.Module, trace: Trace) -> tuple[Layer, ...]:
        """Return the rows of ``model``, first the modules that ran, in order."""
        modules = dict(model.named_modules())
        at_peak: dict[str, int] = {}
        for block in trace.alive_at_peak():
            name = block.event.module
            at_peak[name] = at_peak.get(name, 0) + block.event.size_bytes
        names = [n for n in self._order if n in modules]
        names += [n for n in modules if n not in self._order]
        return tuple(
            Layer(
                name=name,
                kind=type(modules[name]).__name__,
                parameter_bytes=_own_bytes(modules[name]),
                output_bytes=self._outputs.get(name, 0),
                saved_bytes=self._saved.get(name, 0),
                peak_bytes=at_peak.get(name, 0),
            )
            for name in names
        )


def _own_bytes(module: nn.Module) -> int:
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return sum(map(_bytes, own))


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
