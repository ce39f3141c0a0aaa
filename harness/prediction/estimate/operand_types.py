"""Products of tensors of different types: real kernels refuse them, meta tensors do not."""

from typing import Any

import torch

_aten = torch.ops.aten
_PRODUCTS = {
    _aten.mm.default,
    _aten.addmm.default,
    _aten.bmm.default,
    _aten.baddbmm.default,
    _aten.convolution.default,
}


def check_types(operator: Any, operands: tuple[Any, ...]) -> None:
    """Refuse a product that PyTorch's kernels refuse.

    Raises:
        RuntimeError: as from the kernel.
    """
    if operator not in _PRODUCTS:
        return
    types = [one.dtype for one in operands[:3] if isinstance(one, torch.Tensor)]
    if len(set(types)) > 1:
        names = ", ".join(str(kind).removeprefix("torch.") for kind in types)
        raise RuntimeError(f"{operator}: the operands must have the same dtype, got {names}")
