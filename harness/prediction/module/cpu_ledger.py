"""What a step allocates on the CPU, written down while it runs on fake tensors.

Fake tensors have shapes, types and storages, but no memory. A dispatch mode sees each operator's
results. Time is linear in the number of operators.

Source: torch/_subclasses/fake_tensor.py; torch/utils/_python_dispatch.py.
"""

from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from harness.instruments.tensor_roles import storages
from harness.prediction.estimate.operand_types import check_types
from harness.prediction.module import cpu_recurrent
from harness.prediction.module.block_log import BlockLog
from harness.training.nested_tensors import tensors

INITIALISER = "the building read a number from a tensor; 0 was answered"


class CopiedFakeMode(FakeTensorMode):  # type: ignore[no-untyped-call]
    """A fake mode that copies of its tensors share, as those of a copied layer."""

    def __deepcopy__(self, memo: object) -> "CopiedFakeMode":
        return self


class CpuLedger(BlockLog):  # type: ignore[no-untyped-call]
    """Sees each operator's results."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.phase == "build" and func is torch.ops.aten._local_scalar_dense.default:
            # An initialiser asks whether to draw again: no. No size depends on it.
            self.notes.append(INITIALISER)
            return 0
        check_types(func, args)
        result = func(*args, **(kwargs or {}))
        for tensor in (result,) if isinstance(result, Tensor) else tensors(result):
            self.see(tensor, func.name())
        if func is cpu_recurrent.LAYER:
            self._keep_workspace(args, result[cpu_recurrent.WORKSPACE])
        return result

    def _keep_workspace(self, args: Any, workspace: Tensor) -> None:
        """Write down a workspace, of which a fake tensor does not know the size."""
        size, storage = cpu_recurrent.workspace_bytes(args), workspace.untyped_storage()
        if size:
            self._sizes[storage._cdata] = size
            self.see(workspace, cpu_recurrent.LABEL)

    def see(self, tensor: Tensor, operator: str) -> None:
        """Write down the tensor's storages, where they are new or of a new size."""
        for storage in storages(tensor):
            if not self.is_known(storage):
                self.begin(storage, operator)

    def is_forward(self) -> bool:
        """Return whether the phase is the forward pass."""
        return self.phase == "forward"

    def is_backward(self) -> bool:
        """Return whether the phase is the backward pass."""
        return self.phase == "backward"
