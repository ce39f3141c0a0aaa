"""Parameters that a script initialises on the host: written only if something reads them.

From the first large parameter on, until the first forward pass or until all of them are on the
GPU, the initialisers of large tensors are noted (``harness.training.deferred_values``). So a
network larger than this machine is built as on a machine with a GPU. While nothing is noted, no
mode is on: data, compiled code and training steps are left alone.
"""

from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_forward_pre_hook,
    register_module_parameter_registration_hook,
)
from torch.utils._python_dispatch import _get_current_dispatch_mode

from harness.schema.units import format_bytes
from harness.training.deferred_values import deferred_values

LARGEST_WRITTEN_BYTES = 16 << 20
"""A parameter from this size on begins the noting, of all that ``deferred_values`` notes."""


class LargeParameters:
    """Defers values while a script builds and moves a network."""

    def __init__(self, notes: list[str]) -> None:
        self._notes = notes
        self._mode: deferred_values | None = None
        self._on_forward: Any = None
        self._depth = 0

    def defer(self) -> None:
        """Watch the modules of this process from now on."""
        register_module_parameter_registration_hook(self._begin)
        apply: Any = nn.Module._apply

        def applied(module: nn.Module, *arguments: Any, **named: Any) -> nn.Module:
            self._depth += 1
            try:
                moved: nn.Module = apply(module, *arguments, **named)
            finally:
                self._depth -= 1
            if self._mode is not None and self._depth == 0 and not self._mode.is_waiting:
                self._end(self._mode)
            return moved

        patched: Any = nn.Module
        patched._apply = applied

    def _begin(self, module: nn.Module, name: str, parameter: object) -> None:
        del module, name
        if not isinstance(parameter, torch.Tensor) or _get_current_dispatch_mode() is not None:
            return  # on already, or under a mode of the script's own
        if parameter.device.type == "cpu" and parameter.nbytes >= LARGEST_WRITTEN_BYTES:
            self._mode = deferred_values()
            self._mode.__enter__()  # type: ignore[no-untyped-call]
            self._on_forward = register_module_forward_pre_hook(self._forward)

    def _forward(self, module: nn.Module, inputs: object) -> None:
        del inputs
        if self._mode is not None:
            self._mode.write(chain(module.parameters(), module.buffers()))
            self._end(self._mode)

    def _end(self, mode: deferred_values) -> None:
        if _get_current_dispatch_mode() is not mode:
            return  # the script has a mode of its own on top of it: after that
        self._mode = None
        self._on_forward.remove()
        mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        if mode.left_out_bytes:
            self._notes.append(
                f"initial values of {format_bytes(mode.left_out_bytes)} on the host were never"
                " written, because nothing read them before they were moved to the GPU"
            )
