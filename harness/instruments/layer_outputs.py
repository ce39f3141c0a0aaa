"""The modules of a network in the order of their forward passes, and what each one returns."""

from typing import Any

from torch import Tensor, nn

from harness.instruments.forward_hooks import Forward
from harness.training.nested_tensors import tensors


class LayerOutputs:
    """Notes each module's output; used around a step that is not traced."""

    def __init__(self) -> None:
        self._bytes: dict[str, int] = {}

    def named(self, name: str, forward: Forward) -> Forward:
        """Stand in for a module's forward."""

        def run(*args: Any, **kwargs: Any) -> Any:
            self._bytes.setdefault(name, 0)
            output = forward(*args, **kwargs)
            self._bytes[name] = sum(map(_size, tensors(output)))
            return output

        return run

    def rows(self, model: nn.Module) -> list[dict[str, Any]]:
        """Return each module's name, kind and sizes: first those that ran, in order."""
        modules = dict(model.named_modules())
        names = [*self._bytes, *(name for name in modules if name not in self._bytes)]
        return [
            {
                "name": name,
                "kind": type(modules[name]).__name__,
                "parameter_bytes": _own_bytes(modules[name]),
                "output_bytes": self._bytes.get(name, 0),
            }
            for name in names
        ]


def _own_bytes(module: nn.Module) -> int:
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return sum(map(_size, own))


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
